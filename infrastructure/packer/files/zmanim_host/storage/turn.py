"""One at a time: a backup, a restore and an adoption take the same lock; who can't have it is told who holds it.

It is the lock of the directory /data/backup itself (flock), which backup.sh takes too. Nobody writes down who holds it:
the kernel knows, and frees it with its holder's last process, however that ended.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import HostError, locked

PROC = Path("/proc")
# These are ended by systemd; whatever else holds the lock is somebody's command.
UNITS = ("restic-backup.service", "backup-drill.service", "backup-proof.service")


@dataclass(frozen=True)
class Holder:
    """A process that holds the lock: what it is (a unit of UNITS, or a command's words) and since when, as text.

    Both are empty where it is another user's.
    """

    pid: int
    what: str = ""
    since: str = ""

    @property
    def end(self) -> str:
        """The command that ends it."""
        return f"systemctl stop {self.what}" if self.what in UNITS else f"kill {self.pid}"


@contextmanager
def taken(folder: Path) -> Iterator[None]:
    """Hold the lock for the body of the `with`; HostError, at once, that says who holds it."""
    with ExitStack() as lock:
        try:
            lock.enter_context(locked(folder, wait=False))
        except BlockingIOError:
            raise HostError(refusal(folder)) from None
        yield


def refusal(folder: Path, proc: Path = PROC) -> str:
    """Return what to tell somebody who can't have the lock."""
    holder = find_holder(folder, proc)
    if holder is None:
        return "another backup or restore was running on this machine a moment ago: nothing was done. Try again"
    who = f"{holder.what or 'somebody'} (process {holder.pid})"
    since = f" since {holder.since}" if holder.since else ""
    words = f"another backup or restore is running on this machine: {who}{since}"
    return f"{words}. Nothing was done. To end it: {holder.end}"


def find_holder(folder: Path, proc: Path = PROC) -> Holder | None:
    """Return who holds a folder's lock: the oldest of the processes that share it, or None when nobody does.

    Of another user's process only its number is known, from /proc/locks.
    """
    status = folder.stat()
    seen = [(_started(proc, pid), pid) for pid in _pids(proc) if _holds(proc / str(pid), status)]
    if seen:
        started, pid = min(seen)
        return Holder(pid, _what(proc / str(pid)), time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(started)))
    place = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    match = re.search(rf"FLOCK +ADVISORY +WRITE +(\d+) {re.escape(place)} ", (proc / "locks").read_text("ascii"))
    return Holder(int(match[1])) if match else None


def _pids(proc: Path) -> list[int]:
    return [int(path.name) for path in proc.iterdir() if path.name.isdigit()]


def _holds(process: Path, folder: os.stat_result) -> bool:
    try:
        for descriptor in (process / "fd").iterdir():
            status = descriptor.stat()
            is_folder = (status.st_dev, status.st_ino) == (folder.st_dev, folder.st_ino)
            # Of an open file that has no lock nothing is said there.
            if is_folder and "FLOCK" in (process / "fdinfo" / descriptor.name).read_text("ascii"):
                return True
    except OSError:
        pass  # it has ended, or is another user's
    return False


def _started(proc: Path, pid: int) -> float:
    """Return when a process began, in seconds since 1970."""
    try:
        ticks = int((proc / str(pid) / "stat").read_text("utf-8").rpartition(")")[2].split()[19])
        booted = re.search(r"^btime (\d+)$", (proc / "stat").read_text("ascii"), re.MULTILINE)
    except OSError:
        return time.time()
    return int(booted[1] if booted else 0) + ticks / os.sysconf("SC_CLK_TCK")


def _what(process: Path) -> str:
    try:
        unit = (process / "cgroup").read_text("utf-8").strip().rpartition("/")[2]
        words = (process / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return ""
    return unit if unit in UNITS else " ".join(words).strip()
