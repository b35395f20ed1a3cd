"""Which release may run: decisions only, no file and no network."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from zmanim_host.host import HostError
from zmanim_host.release.pointer import Pointer, order

ARCHITECTURE = "aarch64"
# A release that is on probation may end this often by itself; after that it is rolled back.
MOST_CRASHES = 3
# As many denied releases as are remembered.
MOST_DENIED = 100


@dataclass(frozen=True)
class Release:
    """A release on this machine; `sha256` is its bundle's, empty for the one that came with the image."""

    version: str
    sha256: str = ""


@dataclass(frozen=True)
class Probation:
    """A release that has not proven itself yet. `restarts`: how often systemd had restarted the API when it began."""

    release: Release
    restarts: int = 0


@dataclass(frozen=True)
class State:
    """What outlives a boot and an image, on the data volume.

    `serial` is the highest seen and `digest` the payload that had it; `denied` are bundles that failed here;
    `rolled_back_to` is the version that an automatic rollback chose, and empty when the channel chose.
    """

    serial: int = 0
    digest: str = ""
    oldest_allowed: str = "v0.0.0"
    denied: tuple[str, ...] = ()
    probation: Probation | None = None
    rolled_back_to: str = ""


def check_serial(pointer: Pointer, state: State, floor: int) -> None:
    """Raise HostError for a pointer that is older than one that was seen, or another one of the same serial.

    `floor` is the serial that was the newest when the image was built.
    """
    if pointer.serial < floor:
        raise HostError(f"the channel's serial {pointer.serial} is a replayed one: this image was built after {floor}")
    if pointer.serial < state.serial:
        raise HostError(f"the channel's serial {pointer.serial} is a replayed one: {state.serial} was seen before")
    if pointer.serial == state.serial and pointer.digest != state.digest:
        raise HostError(f"the channel's serial {pointer.serial} was seen before with other content")


def seen(state: State, pointer: Pointer) -> State:
    """Return the state that remembers a pointer, whatever becomes of it; `check_serial` comes first."""
    return replace(state, serial=pointer.serial, digest=pointer.digest, oldest_allowed=pointer.oldest_allowed)


def choose(pointer: Pointer, state: State, *, running: Release, baked: Release, now: float) -> Release:
    """Return the release that a signed pointer, whose serial is right, makes this machine run.

    `now` is in seconds since 1970. Raises HostError when nothing may be adopted: what runs then goes on.
    """
    wanted = Release(pointer.version, pointer.sha256)
    if pointer.architecture != ARCHITECTURE:
        raise HostError(f"{pointer.version} is for {pointer.architecture[:40]!r}, and this is {ARCHITECTURE}")
    if order(pointer.version) < order(pointer.oldest_allowed):
        raise HostError(f"{pointer.version} is older than {pointer.oldest_allowed}, the oldest that is allowed")
    if wanted == running:
        return running
    if pointer.expires <= now:
        day = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(pointer.expires))
        raise HostError(f"the channel's pointer to {pointer.version} expired at {day}")
    if order(pointer.version) == order(baked.version):
        wanted = baked
    elif order(pointer.version) < order(baked.version) and not pointer.rollback:
        # The image is the newer statement. A rollback says explicitly that it is not.
        wanted = baked
    if not pointer.rollback and order(wanted.version) < order(running.version):
        raise HostError(f"{wanted.version} is older than {running.version}, and the channel does not say rollback")
    if wanted.sha256 in state.denied:
        raise HostError(f"{wanted.version} failed on this machine before and is not tried again")
    return wanted


def begin(state: State, release: Release, *, proven: bool, restarts: int) -> State:
    """Return the state with `release` in force by the channel's word: on probation, unless it is `proven`."""
    return replace(state, probation=None if proven else Probation(release, restarts), rolled_back_to="")


def crashes(probation: Probation, restarts: int) -> int:
    """Return how often a release on probation ended by itself, from how often systemd has restarted it by now.

    systemd begins to count anew when somebody starts the unit.
    """
    return restarts - probation.restarts if restarts >= probation.restarts else restarts


def fall_back(state: State, *, last_good: Release | None, baked: Release) -> Release:
    """Return what runs after a release on probation failed: the last good one, else the image's own.

    Raises HostError when neither is allowed to: the channel says how old a release may be that meets this database.
    """
    for release in (last_good, baked):
        if release is None or (release.sha256 and release.sha256 in state.denied):
            continue
        if order(release.version) >= order(state.oldest_allowed):
            return release
    raise HostError(f"there is no release to go back to that is {state.oldest_allowed} or newer")


def deny(state: State, failed: Release, target: Release) -> State:
    """Return the state after an automatic rollback from `failed` to `target`."""
    denied = (*(sha256 for sha256 in state.denied if sha256 != failed.sha256), failed.sha256)
    return replace(state, denied=denied[-MOST_DENIED:], probation=None, rolled_back_to=target.version)
