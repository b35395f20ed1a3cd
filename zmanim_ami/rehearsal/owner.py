"""Which rehearsal owns a cloud or a process, so that what a killed one left behind is found again.

A rehearsal names its own process in its environment, which every child inherits. `kill -9` of the rehearsal leaves
children of children behind; the variable tells them from everybody else's processes. Process groups were rejected:
Packer, dnsmasq and the cloud start groups of their own.
"""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "REHEARSAL_OWNER"
_REAPING_SECONDS = 5.0
_POLL_SECONDS = 0.05
_NAME = re.compile(r"[a-z]+-(\d+)-(\d+)")
_IN_ENVIRONMENT = re.compile(rf"(?:^|\0){VARIABLE}=([^\0]*)")


@dataclass(frozen=True)
class ProcessRef:
    """A process: its id and its start time (clock ticks since boot, proc(5) field 22), as ids are used again."""

    pid: int
    started: int

    def name(self, kind: str = "rehearsal") -> str:
        """Name a cloud that this process owns; `owner_of` reads it back from the name. `kind` is one word, a-z."""
        return f"{kind}-{self.pid}-{self.started}"

    def is_alive(self) -> bool:
        """Tell whether exactly this process still runs."""
        state, *fields = _stat(self.pid)
        return state != "Z" and fields[18:19] == [str(self.started)]


def this_process() -> ProcessRef:
    """Return the process that calls."""
    return ProcessRef(os.getpid(), int(_stat(os.getpid())[19]))


def owner_of(name: str) -> ProcessRef | None:
    """Return the process that a cloud's name or the variable's value names, if it names one."""
    match = _NAME.fullmatch(name)
    return ProcessRef(int(match[1]), int(match[2])) if match else None


def stop_leftovers(name: str = "", grace: float = 2.0) -> list[int]:
    """End every process whose owner is dead, with a `name` only those of that one; return their ids.

    Each gets one SIGTERM and `grace` seconds, then SIGKILL. Processes of a living rehearsal are left alone, and those
    in another namespace of process ids: who owns them can't be told from here. Waits until process 1 has reaped those
    that have ended, which in a container may take it seconds: until then they are listed.
    """

    def is_leftover(pid: int) -> bool:
        return _is_leftover(pid, name)

    leftovers = [pid for pid in _processes() if is_leftover(pid)]
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, _REAPING_SECONDS)):
        for pid in filter(is_leftover, leftovers):
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(pid, number)
        end = time.monotonic() + seconds
        while any(map(is_leftover, leftovers)) and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
    while any(map(_is_orphaned_zombie, _processes())) and time.monotonic() < end:
        time.sleep(_POLL_SECONDS)
    return leftovers


def _processes() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _is_orphaned_zombie(pid: int) -> bool:
    return _stat(pid)[:2] == ["Z", "1"]


def _is_leftover(pid: int, name: str) -> bool:
    try:
        environment = Path(f"/proc/{pid}/environ").read_text(errors="replace")
    except OSError:
        return False  # it has just ended, or is not ours to see
    match = _IN_ENVIRONMENT.search(environment)
    owner = owner_of(match[1]) if match else None
    if owner is None or pid == os.getpid() or owner.is_alive() or (name and owner != owner_of(name)):
        return False
    # A rehearsal in a container names its own process by an id that means another one here, or none.
    return _namespace(str(pid)) == _namespace("self")


def _namespace(pid: str) -> str:
    """Return the namespace of process ids that a process is in, or nothing when it has just ended."""
    try:
        return str(Path(f"/proc/{pid}/ns/pid").readlink())
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """Return what proc(5) says of a process from its state on, empty fields when there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return [""]
    return stat.rpartition(")")[2].split()  # the name before it may hold spaces and parentheses
