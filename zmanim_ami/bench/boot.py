"""boot: from RunInstances, and from RebootInstances, until PostgreSQL and Redis answer and the machine is ready."""

from __future__ import annotations

from zmanim_ami.bench import chain, launch
from zmanim_ami.bench.figures import repeat
from zmanim_ami.bench.lab import Lab, built_image
from zmanim_ami.bench.launch import Started
from zmanim_ami.pipeline import instance

NOTES = (
    "Seconds since the call; of a reboot they include the shutdown.",
    "A service answers when systemd has it as active (both notify); ready is when every check has passed.",
    "A first boot also formats the data volume, makes the cluster, the database and its extensions, and migrates.",
    "critical chain: when the unit was done, in seconds since systemd began, in the runs whose chain it was part of.",
    "blame: how long the unit took to start, in the runs in which it was among the slowest; many run side by side.",
)


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Launch the built image `runs` times and reboot each machine once. Raises what launching raises, `step-failed`."""
    image_id, _base = built_image(lab)
    return repeat("boot", runs, lambda _number: _boots(lab, image_id))


def _boots(lab: Lab, image_id: str) -> dict[str, float]:
    with launch.launched(lab, image_id) as first:
        return _boot(lab, first, "first boot") | _boot(lab, launch.rebooted(lab, first), "reboot")


def _boot(lab: Lab, started: Started, which: str) -> dict[str, float]:
    figures = launch.moments(lab, started)
    critical = instance.run_script(lab.clients, started.instance_id, chain.ASK_CHAIN, 120, lab.pace)
    figures |= {f"critical chain: {unit}": at for unit, at in chain.critical(critical).items()}
    blame = instance.run_script(lab.clients, started.instance_id, chain.ASK_BLAME, 60, lab.pace)
    figures |= {f"blame: {unit}": took for unit, took in chain.blamed(blame).items()}
    return {f"{which}: {name}": value for name, value in figures.items()}
