"""Runs in a machine, as root: starts a unit, waits for its end, and says what it took and held at most, as JSON.

Usage: peaks.py UNIT DIRECTORY CACHE. `seconds` from the start to the end; in bytes, each the most of looks 0.2 s apart:
`memory` of all the unit's processes together (proportional set size: what they share is counted once), `disk` that
DIRECTORY took, `unfinished` files that have no name any more (restic's packs until they are sent), `cache` that CACHE
took. Standard library only: the machine has no other.
"""

from __future__ import annotations

import json
import re
import stat
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

_PAUSE_SECONDS = 0.2
_PSS = re.compile(r"^Pss: *(\d+) kB$", re.MULTILINE)


def taken(directory: Path) -> int:
    """Return how many bytes of disk the files below a directory take; what goes meanwhile takes none."""
    total = 0
    for path in directory.rglob("*"):
        with suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def processes(unit: str, cgroups: Path = Path("/sys/fs/cgroup/system.slice")) -> list[int]:
    """Return the ids of a unit's processes, none when it is not running."""
    try:
        return [int(word) for word in (cgroups / unit / "cgroup.procs").read_text().split()]
    except OSError:
        return []


def held(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Return the processes' memory in bytes; one that ends meanwhile holds none."""
    total = 0
    for pid in pids:
        with suppress(OSError):
            total += sum(int(kilobytes) for kilobytes in _PSS.findall((proc / f"{pid}/smaps_rollup").read_text()))
    return total * 1024


def nameless(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """Return the bytes of open files that have no name any more, each file once."""
    sizes: dict[tuple[int, int], int] = {}
    for pid in pids:
        with suppress(OSError):  # the process has ended
            for descriptor in (proc / f"{pid}/fd").iterdir():
                with suppress(OSError):  # it was closed
                    status = descriptor.stat()
                    if stat.S_ISREG(status.st_mode) and not status.st_nlink:
                        sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
    return sum(sizes.values())


def measure(unit: str, directory: Path, cache: Path) -> Mapping[str, float]:
    """Start the unit and return the figures. Raises CalledProcessError when it fails."""
    most = dict.fromkeys(("memory", "disk", "unfinished", "cache"), 0)
    begun = time.monotonic()
    command = ["systemctl", "start", unit]
    with subprocess.Popen(command) as started:
        while started.poll() is None:
            pids = processes(unit)
            now = {"memory": held(pids), "disk": taken(directory), "unfinished": nameless(pids), "cache": taken(cache)}
            most = {name: max(value, now[name]) for name, value in most.items()}
            time.sleep(_PAUSE_SECONDS)
    seconds = time.monotonic() - begun
    if started.returncode:
        raise subprocess.CalledProcessError(started.returncode, command)
    return {"seconds": seconds, **most}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(measure(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))) + "\n")
