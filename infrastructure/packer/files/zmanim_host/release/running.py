"""Which release of the API runs, by what its process has mapped, and whether that is the one in force."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from zmanim_host.host import CLOCK, Clock, HostError, NotYet, retry
from zmanim_host.release.store import CURRENT, Store
from zmanim_host.systemd import API, properties

RELEASES = Store().releases
PROC = Path("/proc")


def running(proc: Path = PROC, releases: Path = RELEASES) -> tuple[str, Path]:
    """Return the version of the release below `releases` that the API's process runs, and the file of its program.

    Not by /proc/PID/exe, which is the emulator where ARM64 is emulated; nor by a path, whose file may have been
    exchanged since: map_files opens what is mapped. Raises HostError when it runs none.
    """
    process = proc / properties(API, "MainPID").get("MainPID", "0")
    try:
        version, addresses = mapped((process / "maps").read_text("utf-8"), releases)
    except OSError as error:
        raise HostError(f"the process of {API} can't be looked at: {error}") from error
    return version, process / "map_files" / addresses


def mapped(maps: str, releases: Path = RELEASES) -> tuple[str, str]:
    """Return the version of the release that a process has mapped, and at which addresses, from its /proc/PID/maps.

    Raises HostError when it maps none.
    """
    for line in maps.splitlines():
        fields = line.split(None, 5)
        if len(fields) == 6 and Path(fields[5]).is_relative_to(releases):
            first, last = fields[0].split("-")
            # map_files writes addresses without the leading zeros that maps has.
            return Path(fields[5]).relative_to(releases).parts[0], f"{int(first, 16):x}-{int(last, 16):x}"
    raise HostError(f"the process of {API} runs nothing below {releases}")


def binary_sha256(proc: Path = PROC) -> str:
    """Return the SHA-256 of the program that the API's process runs. Raises HostError."""
    _, program = running(proc)
    try:
        return hashlib.sha256(program.read_bytes()).hexdigest()
    except OSError as error:
        raise HostError(f"the running program of {API} can't be read: {error}") from error


def check_release(store: Store | None = None, proc: Path = PROC, *, clock: Clock = CLOCK) -> str:
    """The API runs the release in force; return its version, and why it is that one.

    One that was rolled back runs until the restart that follows, which is waited for. Raises HostError.
    """
    store = store or Store()

    def attempt() -> str:
        runs, _ = running(proc, store.releases)
        wanted = Path(os.path.realpath(store.releases / CURRENT)).name
        if runs != wanted:
            raise NotYet(f"{runs} runs, and {wanted} is in force: systemctl restart {API}")
        return runs

    version = retry(attempt, seconds=10, pause=0.2, clock=clock)
    status = store.read_status()
    return f"{version}: {status.why}" if status and status.version == version else version
