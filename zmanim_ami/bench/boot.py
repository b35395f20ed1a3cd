"""boot: from RunInstances, and from RebootInstances, until PostgreSQL and Redis answer and the machine is ready."""

from __future__ import annotations

from support.progress import say, step
from zmanim_ami.bench import chain, launch
from zmanim_ami.bench.lab import Lab, baked_image
from zmanim_ami.bench.launch import Started
from zmanim_ami.pipeline import instance

NOTES = (
    "Seconds since the call; of a reboot they include the shutdown.",
    "A service answers when systemd holds it for active (both notify); ready is when every check has passed.",
    "A first boot also formats the data volume, makes the cluster, the database and its extensions, and migrates.",
    "critical chain: when the unit was done, in seconds since systemd began, in the runs whose chain it was part of.",
    "blame: how long the unit took to start, in the runs in which it was among the slowest; many run side by side.",
)


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Launch the baked image `runs` times and reboot each machine once. Raises launch's faults, `task-failed`."""
    image_id, _base = baked_image(lab)
    samples = []
    for number in range(1, runs + 1):
        with step(f"boot {number} of {runs}"), launch.launched(lab, image_id) as first:
            sample = _boot(lab, first, "first boot") | _boot(lab, launch.rebooted(lab, first), "reboot")
        say(f"  first boot {sample['first boot: ready']:.1f} s, reboot {sample['reboot: ready']:.1f} s")
        samples.append(sample)
    return samples


def _boot(lab: Lab, started: Started, which: str) -> dict[str, float]:
    found = launch.moments(lab, started)
    told = instance.run_script(lab.clients, started.instance_id, chain.ASK_CHAIN, 120, lab.pace)
    found |= {f"critical chain: {unit}": at for unit, at in chain.critical(told).items()}
    told = instance.run_script(lab.clients, started.instance_id, chain.ASK_BLAME, 60, lab.pace)
    found |= {f"blame: {unit}": took for unit, took in chain.blamed(told).items()}
    return {f"{which}: {name}": value for name, value in found.items()}
