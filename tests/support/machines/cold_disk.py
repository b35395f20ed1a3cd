"""Boots from a disk that nothing has read yet, on a slow processor, as on AWS from a volume just made of a snapshot.

There each block comes from S3 when it is first read. Here the files of the machines' layers are dropped from the host's
cache, and the machines' reads and processor time are limited by control groups: blkio and cpu of version 1, or io and
cpu of version 2, whichever this host has.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localcloud.host import cgroups
from localcloud.settings import Cloud

_PERIOD = 100_000  # microseconds, of which a group may have its share


@dataclass(frozen=True)
class Pace:
    """What a machine may take: bytes a second from the disk, and processors."""

    read: int
    processors: float

    @property
    def quota(self) -> int:
        """The microseconds of processor time in each period."""
        return int(_PERIOD * self.processors)


SLOW, SLOWER = Pace(5 << 20, 0.4), Pace(2 << 20, 0.2)


class Brake(Protocol):
    """What slows a cloud's machines down."""

    def seize(self, machine: Path) -> None:
        """Slow the processes in a machine's cgroup2 group that are not slowed yet."""

    def holds(self, machine: Path) -> bool:
        """Say whether all of a machine's processes are slowed."""

    def read_bytes(self, machine: Path) -> int:
        """Return how many bytes the machine's processes have read from the disk itself, not from the host's cache."""

    def release(self) -> None:
        """Take the limits away."""


class Version1:
    """By groups of our own beside the machine's: each hierarchy of version 1 puts a process where it likes."""

    def __init__(self, pace: Pace, disk: str, blkio: Path, cpu: Path) -> None:
        name = f"zmanim-cold-{os.getpid()}"
        self._disk = disk
        self._groups = tuple(cgroups.leaf(hierarchy, name) for hierarchy in (blkio, cpu))
        (self._groups[0] / "blkio.throttle.read_bps_device").write_text(f"{disk} {pace.read}")
        (self._groups[1] / "cpu.cfs_period_us").write_text(f"{_PERIOD}")
        (self._groups[1] / "cpu.cfs_quota_us").write_text(f"{pace.quota}")

    def seize(self, machine: Path) -> None:
        for group in self._groups:
            # Whoever is born of one that is inside is inside, too.
            for pid in set(cgroups.members(machine)) - set(cgroups.members(group)):
                _move(pid, group)

    def holds(self, machine: Path) -> bool:
        return all(set(cgroups.members(machine)) <= set(cgroups.members(group)) for group in self._groups)

    def read_bytes(self, machine: Path) -> int:
        return count((self._groups[0] / "blkio.throttle.io_service_bytes").read_text(), self._disk)

    def release(self) -> None:
        for group in self._groups:
            while pids := cgroups.members(group):
                for pid in pids:
                    _move(pid, group.parent)
            group.rmdir()


class Version2:
    """By limits of the machine's own group."""

    def __init__(self, pace: Pace, disk: str, cloud_group: Path) -> None:
        self._disk = disk
        self._limits = {"io.max": f"{disk} rbps={pace.read}", "cpu.max": f"{pace.quota} {_PERIOD}"}
        for group in (cloud_group.parent, cloud_group):
            (group / "cgroup.subtree_control").write_text("+io +cpu")

    def seize(self, machine: Path) -> None:
        for name, limit in self._limits.items():
            (machine / name).write_text(limit)

    def holds(self, machine: Path) -> bool:
        return all((machine / name).read_text().startswith(limit) for name, limit in self._limits.items())

    def read_bytes(self, machine: Path) -> int:
        return count((machine / "io.stat").read_text(), self._disk)

    def release(self) -> None:
        """Nothing is to be done: the limits go with the machines."""


def _move(pid: int, group: Path) -> None:
    try:
        (group / "cgroup.procs").write_text(f"{pid}")
    except ProcessLookupError:
        pass  # it ended in between


def count(text: str, disk: str) -> int:
    """Return the bytes read from a disk: version 1's line "254:0 Read 4096", or version 2's "254:0 rbytes=4096 …"."""
    for device, *words in map(str.split, text.splitlines()):
        if device == disk and words[0] == "Read":
            return int(words[1])
        if device == disk and words[0].startswith("rbytes="):
            return int(words[0].removeprefix("rbytes="))
    return 0


@dataclass(frozen=True)
class Slowed:
    """A cloud whose machines are slow, each from its start on."""

    group: Path
    brake: Brake

    def holds(self, machine: str) -> bool:
        """Say whether all of a machine's processes are slowed."""
        return self.brake.holds(self.group / machine)

    def read_bytes(self, machine: str) -> int:
        """Return how many bytes a machine has read from the disk itself. Under version 1: all of them together."""
        return self.brake.read_bytes(self.group / machine)


@contextmanager
def slowed(cloud: Cloud, pace: Pace) -> Iterator[Slowed]:
    """Slow every machine that the cloud starts within the `with`, from its first moments on."""
    group = cgroups.cloud_groups(cloud.directory)[0]
    brake = _brake(pace, disk_of(cloud.directory), group)
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.005):
            for machine in group.glob("i-*"):
                try:
                    brake.seize(machine)
                except FileNotFoundError:
                    continue  # the machine has just ended

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield Slowed(group, brake)
    finally:
        done.set()
        watching.join()
        brake.release()


def _brake(pace: Pace, disk: str, group: Path) -> Brake:
    mounts = cgroups.parse_mountinfo(Path("/proc/self/mountinfo").read_text())
    version1 = {
        name: each.point
        for each in mounts
        if each.kind == "cgroup"
        for name in ("blkio", "cpu")
        if name in each.options
    }
    if len(version1) == 2:
        return Version1(pace, disk, version1["blkio"], version1["cpu"])
    return Version2(pace, disk, group)


def disk_of(path: Path) -> str:
    """Return MAJOR:MINOR of the whole disk that a path lies on: a partition takes no limit."""
    device = path.stat().st_dev
    block = Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}")
    assert block.exists(), f"{path} lies on no disk that can be limited: put TMPDIR on ext4 or XFS"
    whole = block.resolve()
    return ((whole.parent if (whole / "partition").exists() else whole) / "dev").read_text().strip()


def drop(*trees: Path) -> None:
    """Drop the files of directories from the host's cache, so that they are read anew.

    What a running machine has mapped stays, and what is not written yet is written first.
    """
    os.sync()
    for tree in trees:
        for directory, _, names in os.walk(tree):
            for path in (Path(directory, name) for name in names):
                if path.is_symlink() or not path.is_file():
                    continue
                with path.open("rb") as file:
                    os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
