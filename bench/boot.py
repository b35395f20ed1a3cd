"""boot: from RunInstances, and from RebootInstances, until PostgreSQL and Redis answer and the machine is ready."""

from __future__ import annotations

from bench import launch
from bench.lab import Lab, baked_image
from support.progress import say, step

NOTES = (
    "Seconds since the call; of a reboot they include the shutdown.",
    "A service answers when systemd holds it for active (both notify); ready is when every check has passed.",
    "A first boot also formats the data volume, makes the cluster, the database and its extensions, and migrates.",
)


def measure(lab: Lab, runs: int) -> list[dict[str, float]]:
    """Launch the baked image `runs` times and reboot each machine once. Raises launch's faults, lab.TaskFailed."""
    image_id, _base = baked_image(lab)
    samples = []
    for number in range(1, runs + 1):
        with step(f"boot {number} of {runs}"), launch.launched(lab, image_id) as first:
            sample = {f"first boot: {name}": seconds for name, seconds in launch.moments(lab, first).items()}
            again = launch.moments(lab, launch.rebooted(lab, first))
            sample |= {f"reboot: {name}": seconds for name, seconds in again.items()}
        say(f"  first boot {sample['first boot: ready']:.1f} s, reboot {sample['reboot: ready']:.1f} s")
        samples.append(sample)
    return samples
