"""What goes wrong on a bad day, as settings: each fault has a switch of its own, and all chance comes from one seed."""

from __future__ import annotations

import json
import random
import threading
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

_FILE = "bad-day.json"


@dataclass(frozen=True)
class BadDay:
    """Which faults there are; the defaults are those of a quiet day. Chances are from 0 to 1.

    Whether a call is hit depends on the seed, its operation, and how many of that operation came before it: not on the
    time, nor on what else is called meanwhile.
    """

    seed: int = 0
    # Seconds for which reads show roles, policies, instance profiles, parameters, tags, images and instances as they
    # were before they were written; for which a parameter of type aws:ec2:image is being checked; for which an agent
    # that runs has not registered yet; and by which a console is late.
    lag_seconds: float = 0.0
    check_seconds: float = 0.0
    agent_seconds: float = 0.0
    console_seconds: float = 0.0
    # How many new images lag, the first ones; None: all. Packer survives none: its build has to be made again.
    late_images: int | None = None
    # The chance that a call is throttled, whoever makes it.
    throttled: float = 0.0
    # The chance that the answer to a call that was carried out never arrives.
    lost: float = 0.0
    # Also the answers to calls that AWS refuses, or does once more, when they are repeated (calls.UNREPEATABLE).
    lost_unrepeatable: bool = False
    # How many of an image's first RunInstances find no capacity.
    no_capacity: int = 0
    # Whether the kernel writes into the long lines of a console.
    torn_console: bool = False
    # Whether a machine's kernel finds its root's disk after those of its volumes, from its next start on: NVMe devices
    # then have other names. Machines on the host's kernel have one order only.
    root_disk_last: bool = False


def usual(seed: int) -> BadDay:
    """Return the bad day of `--bad-day`: every fault that a client of AWS has to live with, at once."""
    return BadDay(
        seed=seed,
        lag_seconds=6.0,
        check_seconds=8.0,
        agent_seconds=5.0,
        console_seconds=4.0,
        throttled=0.05,
        lost=0.03,
        late_images=1,
        no_capacity=1,
        torn_console=True,
        root_disk_last=True,
    )


def write(directory: Path, day: BadDay | None) -> None:
    """Make a day of a cloud's (by its directory) a bad one, or with None a quiet one again; from the next call on."""
    path = directory / _FILE
    if day is None:
        path.unlink(missing_ok=True)
        return
    # Renamed into place, so that a server that reads meanwhile finds the old file or the new one.
    beside = directory / f".{_FILE}"
    beside.write_text(json.dumps(asdict(day), indent=1) + "\n")
    beside.replace(path)


class Weather:
    """The day that a cloud has, as its file says now, and the dice of that day."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / _FILE
        self._read: tuple[int, BadDay] = (0, BadDay())
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()

    @property
    def today(self) -> BadDay:
        """The faults that are switched on now."""
        try:
            status = self._path.stat()
        except FileNotFoundError:
            return BadDay()
        # The inode, too: two files may be written within the resolution of a file system's times.
        changed = hash((status.st_mtime_ns, status.st_ino))
        if changed != self._read[0]:
            self._read = (changed, BadDay(**json.loads(self._path.read_text())))
        return self._read[1]

    def count(self, what: str) -> int:
        """Count something, and return how many of it there were before."""
        with self._lock:
            self._counts[what] += 1
            return self._counts[what] - 1

    def dice(self, what: str) -> random.Random:
        """Return the dice for the next of `what`: the same numbers in every cloud with the day's seed."""
        return self.dice_of(f"{what}/{self.count(what)}")

    def dice_of(self, what: str) -> random.Random:
        """Return the dice of `what`, which are the same each time."""
        return random.Random(f"{self.today.seed}/{what}")  # noqa: S311 - a day that can be had again, and no secret
