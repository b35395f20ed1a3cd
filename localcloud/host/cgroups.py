"""The cloud's control groups: the one sure list of its processes, and where machines' memory limits hang.

Everything a cloud starts is born inside its group, so `down` needs no pid file and can't be fooled by a reused pid:
it kills what is in the group. Machines need cgroup2; memory limits use it where it has the memory controller, else
the version 1 hierarchy of hybrid hosts.
"""

from __future__ import annotations

import hashlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from support.errors import HostLacks


@dataclass(frozen=True)
class Hierarchies:
    """Where this host has cgroup2 mounted, and the version 1 memory controller if it has that."""

    unified: Path
    memory: Path | None


def hierarchies(mountinfo: str) -> Hierarchies:
    """Find the control group mounts in the text of /proc/self/mountinfo. Raises `host-unfit` without cgroup2."""
    unified: Path | None = None
    memory: Path | None = None
    for line in mountinfo.splitlines():
        fields, _, rest = line.partition(" - ")
        mount_point = Path(fields.split()[4].encode().decode("unicode_escape"))
        kind, _, options = rest.split(" ", 2)
        if kind == "cgroup2" and unified is None:
            unified = mount_point
        elif kind == "cgroup" and "memory" in options.split()[-1].split(","):
            memory = mount_point
    if unified is None:
        raise HostLacks(
            "this host has no cgroup2 hierarchy mounted",
            code="host-unfit",
            expected="a cgroup2 mount, usually /sys/fs/cgroup or /sys/fs/cgroup/unified",
            found="none in /proc/self/mountinfo",
            fix="mount -t cgroup2 none /sys/fs/cgroup/unified",
        )
    return Hierarchies(unified, memory)


def host_hierarchies() -> Hierarchies:
    """Find this host's control group mounts. Raises `host-unfit`."""
    return hierarchies(Path("/proc/self/mountinfo").read_text())


def group_name(directory: Path) -> str:
    """Name a cloud's control group after its state directory (two clouds may share a name but not a directory)."""
    return f"localcloud-{directory.name}-{hashlib.sha256(str(directory).encode()).hexdigest()[:8]}"


def cloud_groups(directory: Path) -> list[Path]:
    """Return the directories of a cloud's control groups, there or not: cgroup2's first."""
    found = host_hierarchies()
    name = group_name(directory)
    return [found.unified / name] + ([found.memory / name] if found.memory else [])


def make(groups: list[Path]) -> None:
    """Make a cloud's control groups."""
    for group in groups:
        group.mkdir(exist_ok=True)


def spread_out(group: Path, outer_pid: int) -> None:
    """Empty the cloud's own group into a leaf, so that cgroup2 lets it hand controllers to its machines.

    cgroup2 has processes in leaves only. On hybrid hosts this is harmless and without effect.
    """
    (leaf(group, "keeper") / "cgroup.procs").write_text(str(outer_pid))


def leaf(group: Path, name: str) -> Path:
    """Make a group below a cloud's own, where processes may be."""
    made = group / name
    made.mkdir(exist_ok=True)
    return made


def members(group: Path) -> list[int]:
    """Return the pids in a group and all groups below it."""
    found: list[int] = []
    for directory, _, _ in os.walk(group):
        try:
            found += [int(line) for line in (Path(directory) / "cgroup.procs").read_text().split()]
        except OSError:
            continue  # the group went away while we looked
    return [pid for pid in found if pid > 0]


def kill_all(groups: list[Path], patience: float = 15.0) -> list[int]:
    """Kill everything in the groups and wait for its end, at most `patience` seconds; return who is left."""
    deadline = time.monotonic() + patience
    while (left := _kill(groups)) and time.monotonic() < deadline:
        time.sleep(0.01)
    return left


def _kill(groups: list[Path]) -> list[int]:
    found = sorted({pid for group in groups for pid in members(group)})
    for pid in found:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended in between
    return found


def remove(groups: list[Path], patience: float = 5.0) -> list[Path]:
    """Remove the groups and all below them, at most `patience` seconds; return what is left.

    A process that enters one of them meanwhile (its starter was killed or interrupted just then) is killed as well.
    """
    deadline = time.monotonic() + patience
    while True:
        _kill(groups)
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    pass  # a process that was killed is still being buried: the next round gets it
        left = [group for group in groups if group.exists()]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.02)
