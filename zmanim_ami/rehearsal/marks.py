"""How a killed rehearsal's processes are found again.

A rehearsal marks its environment, which every child inherits, with its own process id and start time. `kill -9` of the
rehearsal leaves children of children behind; the mark tells them from everybody else's processes. Process groups were
rejected: Packer, dnsmasq and the cloud start groups of their own.
"""

from __future__ import annotations

import os
import re
import signal
import time
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "REHEARSAL_MARK"
_REAPING_SECONDS = 5.0
_NAME = re.compile(r"[a-z]+-(\d+)-(\d+)")


@dataclass(frozen=True)
class Mark:
    """One rehearsal's process: its id and its start time (clock ticks since boot, proc(5) field 22)."""

    pid: int
    started: int

    def name(self, kind: str = "rehearsal") -> str:
        """Name a cloud that this process owns; the mark can be read back from it. `kind` is one word, a-z."""
        return f"{kind}-{self.pid}-{self.started}"

    def is_alive(self) -> bool:
        """Tell whether the process that made this mark still runs; a reused process id does not count."""
        return _start_time(self.pid) == self.started


def own_mark() -> Mark:
    """Return the mark of the process that calls."""
    started = _start_time(os.getpid())
    assert started is not None
    return Mark(os.getpid(), started)


def mark_of(name: str) -> Mark | None:
    """Return the mark that a cloud's name or a variable's value carries, if it carries one."""
    match = _NAME.fullmatch(name)
    return Mark(int(match[1]), int(match[2])) if match else None


def stop_leftovers(grace: float = 2.0) -> list[int]:
    """End every process that carries the mark of a rehearsal which is dead; return their ids.

    Each gets one SIGTERM and `grace` seconds, then SIGKILL. Processes of a living rehearsal are left alone. Waits until
    process 1 has taken note of those that have ended, which in a container may take it seconds: until then they are
    listed still.
    """
    left = [pid for pid in _processes() if _is_leftover(pid)]
    for pid in left:
        _send(pid, signal.SIGTERM)
    end = time.monotonic() + grace
    while any(_start_time(pid) is not None for pid in left) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        if _is_leftover(pid):
            _send(pid, signal.SIGKILL)
    end = time.monotonic() + _REAPING_SECONDS
    while any(_is_orphan_that_ended(pid) for pid in _processes()) and time.monotonic() < end:
        time.sleep(0.05)
    return left


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_orphan_that_ended(pid: int) -> bool:
    state, *fields = _stat(pid) or ["", "0"]
    return state == "Z" and fields[0] == "1"


def _is_leftover(pid: int) -> bool:
    if pid == os.getpid():
        return False
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False  # it has just ended, or is not ours to see
    prefix = f"{VARIABLE}=".encode()
    for entry in environment.split(b"\0"):
        if entry.startswith(prefix):
            mark = mark_of(entry.removeprefix(prefix).decode(errors="replace"))
            return mark is not None and not mark.is_alive()
    return False


def _start_time(pid: int) -> int | None:
    fields = _stat(pid)
    return None if fields is None or fields[0] == "Z" else int(fields[19])


def _stat(pid: int) -> list[str] | None:
    """Return what proc(5) says of a process from its state on, or None when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return stat.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses


def _send(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass  # ended by itself meanwhile
