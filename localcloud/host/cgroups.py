"""The cloud's control groups: the one sure list of its processes, and where machines' memory limits hang.

Everything a cloud starts is born inside its group, so `down` needs no pid file and can't be fooled by a reused pid:
it kills what is in the group. Machines need cgroup2; memory limits use it where it has the memory controller, else
the version 1 hierarchy of hybrid hosts.
"""

from __future__ import annotations

import hashlib
import os
import re
import signal
from dataclasses import dataclass
from pathlib import Path

from support.errors import HostLacks
from support.waiting import wait_for


@dataclass(frozen=True)
class Hierarchies:
    """Where this host has cgroup2 mounted, and the version 1 memory controller if it has that."""

    unified: Path
    memory: Path | None


# Five fields, the last of them the mount point; options and tags; then type, source and options of the file system.
_MOUNT = re.compile(r"^(?:\S+ ){4}(\S+) .*? - (\S+) (\S*) (\S+)$", re.MULTILINE)


@dataclass(frozen=True)
class Mount:
    """A line of /proc/PID/mountinfo: where, the file system's type and source, and the options of its superblock."""

    point: Path
    kind: str
    source: str
    options: list[str]


def parse_mountinfo(text: str) -> list[Mount]:
    """Return the mounts that the text of a mountinfo file lists."""
    return [
        Mount(Path(point.encode().decode("unicode_escape")), kind, source, options.split(","))
        for point, kind, source, options in _MOUNT.findall(text)
    ]


def hierarchies(mountinfo: str) -> Hierarchies:
    """Find the control group mounts in the text of /proc/self/mountinfo. Raises `host-unfit` without cgroup2."""
    mounts = parse_mountinfo(mountinfo)
    unified = next((mount.point for mount in mounts if mount.kind == "cgroup2"), None)
    memory = next((mount.point for mount in mounts if mount.kind == "cgroup" and "memory" in mount.options), None)
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
    roots = host_hierarchies()
    return [root / group_name(directory) for root in (roots.unified, roots.memory) if root is not None]


def leaf(group: Path, name: str) -> Path:
    """Make a group below a cloud's own, where processes may be: cgroup2 has them in leaves only."""
    path = group / name
    path.mkdir(exist_ok=True)
    return path


def entering(groups: list[Path], command: list[str]) -> list[str]:
    """Return the command that enters these groups before it becomes `command`: it is never outside of them.

    A group that was removed meanwhile stops it.
    """
    enter = " && ".join(f'echo 0 >"${number}/cgroup.procs"' for number in range(1, len(groups) + 1))
    script = f'{enter} && shift {len(groups)} && exec "$@"'
    return ["/bin/sh", "-c", script, "sh", *map(str, groups), *command]


def members(*groups: Path) -> list[int]:
    """Return the pids in groups and all groups below them."""
    pids: list[int] = []
    for group in groups:
        for directory, _, _ in os.walk(group):
            try:
                pids += [int(line) for line in (Path(directory) / "cgroup.procs").read_text().split()]
            except OSError:
                continue  # the group has just gone away
    return sorted({pid for pid in pids if pid > 0})


def kill_all(groups: list[Path], patience: float = 15.0) -> list[int]:
    """Kill everything in the groups and wait for its end, at most `patience` seconds; return who is left."""
    wait_for(lambda: not _kill(groups), patience)
    return members(*groups)


def _kill(groups: list[Path]) -> list[int]:
    pids = members(*groups)
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # it ended in between
    return pids


def remove(groups: list[Path], patience: float = 5.0) -> list[Path]:
    """Remove the groups and all below them, at most `patience` seconds; return what is left.

    A process that enters one of them meanwhile (its starter was killed or interrupted just then) is killed as well.
    """

    def removed() -> bool:
        _kill(groups)
        for group in groups:
            for directory, _, _ in os.walk(group, topdown=False):
                try:
                    Path(directory).rmdir()
                except OSError:
                    pass  # a process that was killed is still being reaped: the next round gets it
        return not any(group.exists() for group in groups)

    wait_for(removed, patience, 0.02)
    return [group for group in groups if group.exists()]
