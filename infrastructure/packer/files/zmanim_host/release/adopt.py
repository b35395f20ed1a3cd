"""Adopting what was fetched, and taking back what fails: as root, without a network, believing nothing.

Every start of the API comes through `command`. It never fails as long as there is anything to start: a channel that
can't be followed leaves in force what is.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from zmanim_host import notices
from zmanim_host.host import ERROR, WARNING, HostError, log, run
from zmanim_host.postgres import psql
from zmanim_host.release import bundle as release_bundle
from zmanim_host.release import pointer as release_pointer
from zmanim_host.release import rules
from zmanim_host.release import store as release_store
from zmanim_host.release.fetch import BUNDLE, POINTER
from zmanim_host.release.pointer import KEYS, Pointer
from zmanim_host.release.rules import Release, State
from zmanim_host.release.store import CURRENT, LAST_GOOD, Status, Store, baked, linked

FETCHED = Path("/var/lib/zmanim-release")
API = "zmanim-api.service"
MIGRATE = "zmanim-migrate.service"
# Mails what was left to be mailed.
MAIL = "backup-notify-retry.service"


@dataclass(frozen=True)
class Channel:
    """Where this machine's channel was fetched to, whose it is, and by which keys it is believed."""

    environment: str
    fetched: Path = FETCHED
    keys: Path = KEYS


@dataclass(frozen=True)
class Machine:
    """What adopting asks of the machine around it."""

    restarts: Callable[[], int]
    database_answers: Callable[[], bool]
    now: Callable[[], float] = time.time


def adopt(store: Store, channel: Channel, machine: Machine) -> Status:
    """Leave in force what starts next, and return what that is and why.

    Raises HostError when there is nothing to start.
    """
    release_store.sweep(store)
    running = _mend(store)
    try:
        state = release_store.load(store)
    except HostError as error:
        return Status(running.version, f"no release channel is followed: {error}")
    try:
        state = _judge_trial(store, state, machine)
        running = linked(store, CURRENT) or running
        state, reason = _follow(store, state, channel, machine)
    except (HostError, OSError) as error:
        # What was decided before it went wrong is written down already.
        state, reason = _loaded(store, state), f"the channel is not followed: {_said(error)}"
    running = linked(store, CURRENT) or running
    return status_of(state, running, baked(store), reason)


def status_of(state: State, running: Release, own: Release, reason: str) -> Status:
    """Return what is told of the release in force."""
    on_trial = state.trial is not None and state.trial.release == running
    origin = "the image's own release" if running == own else "from the channel"
    why = f"{origin}{', on trial' if on_trial else ''}; {reason}"
    run_migrations = state.rolled_back_to != running.version
    if not run_migrations:
        why += "; after an automatic rollback: no migration is run"
    return Status(running.version, why, on_trial, run_migrations, state.serial)


def _said(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror + (f" ({error.filename})" if error.filename else "")
    return str(error)


def _loaded(store: Store, otherwise: State) -> State:
    try:
        return release_store.load(store)
    except HostError:
        return otherwise


def _mend(store: Store) -> Release:
    """Return what the link says; where it leads to nothing whole, let it lead to the last good one or the image's."""
    own = baked(store)
    running = linked(store, CURRENT)
    if running is None:
        running = linked(store, LAST_GOOD) or own
        log(f"no whole release was in force: {running.version} is now", WARNING)
        release_store.point(store, CURRENT, running)
    return running


def _judge_trial(store: Store, state: State, machine: Machine) -> State:
    """Take back a release on trial that has ended by itself too often, unless the database was the reason."""
    trial, running = state.trial, linked(store, CURRENT)
    if trial is None:
        if running and running.sha256 in state.denied and running != linked(store, LAST_GOOD):
            # A power cut between the note and the link: without a trial nobody would ever judge it again.
            return _taken_back(store, state, "it was being taken back when the power went")
        return state
    if trial.release != running:  # a power cut between the note and the link, or another root disk
        return _saved(store, replace(state, trial=None))
    restarts = machine.restarts()
    crashes = rules.crashes(trial, restarts)
    if crashes < rules.MOST_CRASHES:
        # Fewer than when it began: somebody started the unit, and systemd counts anew.
        return state if restarts >= trial.restarts else _saved(store, replace(state, trial=replace(trial, restarts=0)))
    if not machine.database_answers():
        log(f"{running.version} ended {crashes} times while the database did not answer: not held against it", WARNING)
        return _saved(store, replace(state, trial=replace(trial, restarts=restarts)))
    return _taken_back(store, state, f"it ended by itself {crashes} times")


def _taken_back(store: Store, state: State, reason: str) -> State:
    try:
        return take_back(store, state, reason)
    except HostError as error:
        # A newer release in the channel may still mend it.
        log(f"what runs can't be taken back ({reason}): {error}", ERROR)
        return state


def _saved(store: Store, state: State) -> State:
    release_store.save(store, state)
    return state


def take_back(store: Store, state: State, reason: str) -> State:
    """Go back from the release in force to the last good one, and never try it again; return the new state.

    It runs no SQL, and leaves what is to be mailed about it. Raises HostError when there is nothing to go back to,
    OSError when nothing can be written.
    """
    failed, own = linked(store, CURRENT), baked(store)
    if failed is None or failed == own:
        raise HostError("what runs is the image's own release: there is none to go back to")
    last_good = linked(store, LAST_GOOD)
    target = rules.fall_back(replace(state, denied=(*state.denied, failed.sha256)), last_good=last_good, baked=own)
    state = rules.deny(state, failed, target)
    release_store.save(store, state)
    release_store.point(store, CURRENT, target)
    log(f"{failed.version} is taken back ({reason}): {target.version} runs, and this machine denies it from now", ERROR)
    try:
        notices.leave(store.notices, notices.TakenBack(failed.version, target.version, reason, time.time()))
    except OSError as error:
        # It is done, and the API has to start: that nobody hears of it must not be in its way.
        log(f"that {failed.version} is taken back can't be mailed: {_said(error)}", ERROR)
    return state


def _follow(store: Store, state: State, channel: Channel, machine: Machine) -> tuple[State, str]:
    """Bring into force what the pointer that was fetched says; return the state and what is to say of it."""
    own, running, environment = baked(store), linked(store, CURRENT) or baked(store), channel.environment
    if not release_pointer.is_release(own.version):
        return state, f"a trial image follows no channel ({own.version})"
    if not environment:
        return state, "no channel is followed: this machine does not know its environment"
    if not (channel.keys / f"{environment}.pem").is_file():
        return state, f"this image has no key for the channel of {environment}: it follows none"
    content = read_fetched(channel.fetched / POINTER, release_pointer.LONGEST)
    if content is None:
        return state, f"nothing is known of the channel of {environment}"
    pointer = release_pointer.read(content, environment, channel.keys)
    rules.check_serial(pointer, state)
    if rules.seen(state, pointer) != state:
        state = _saved(store, rules.seen(state, pointer))
    wanted = rules.choose(pointer, state, running=running, baked=own, now=machine.now())
    if wanted != running:
        _put_there(store, wanted, pointer, channel.fetched / BUNDLE)
        state = _bring_into_force(store, state, wanted, machine.restarts())
    said = f"the channel's serial {pointer.serial} names {pointer.version}"
    return state, said if wanted.version == pointer.version else f"{said}, which is older"


def _put_there(store: Store, wanted: Release, pointer: Pointer, bundle: Path) -> None:
    if wanted in release_store.installed(store):
        return
    content = read_fetched(bundle, pointer.size)
    if content is None:
        raise HostError(f"the bundle of {wanted.version} has not been fetched")
    release_bundle.check_whole(content, sha256=pointer.sha256, size=pointer.size)
    release_store.install(store, wanted, content)


def _bring_into_force(store: Store, state: State, wanted: Release, restarts: int) -> State:
    proven = wanted in (baked(store), linked(store, LAST_GOOD))
    # First the note, then the link: what is in force without having been noted would never be judged.
    state = rules.begin(state, wanted, proven=proven, restarts=restarts)
    release_store.save(store, state)
    release_store.point(store, CURRENT, wanted)
    release_store.prune(store)
    log(f"{wanted.version} is in force from now")
    return state


def read_fetched(path: Path, limit: int) -> bytes | None:
    """Return what the fetcher left, or None; HostError when it is no plain file, or longer than `limit` bytes.

    Another user wrote it: a link may lead anywhere, and a pipe would keep us waiting.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise HostError(f"{path} is not a plain file")
        content = file.read(limit + 1)
    if len(content) > limit:
        raise HostError(f"{path} has more than {limit} bytes")
    return content


# ---- The machine itself ----


def unit_properties(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit as systemd says them."""
    said = run(["systemctl", "show", f"--property={','.join(names)}", unit], timeout=10).stdout
    return dict(line.split("=", 1) for line in said.splitlines() if "=" in line)


def restarts_of_the_api() -> int:
    """Return how often systemd has restarted the API since somebody started it."""
    said = unit_properties(API, "NRestarts").get("NRestarts", "")
    return int(said) if said.isdigit() else 0


def database_answers() -> bool:
    """Return whether PostgreSQL answers the API's own user: if not, no release is to blame for anything."""
    try:
        return psql("--command=SELECT 1", timeout=5, user="zmanim").strip() == "1"
    except HostError:
        return False


def mail(store: Store) -> None:
    """Start the sending of what was left to be mailed, if anything was; the timer tries again what can't be started."""
    if not notices.left(store.notices):
        return
    try:
        run(["systemctl", "start", "--no-block", MAIL], timeout=10)
    except HostError as error:
        log(f"{MAIL} can't be started, its timer does: {error}", WARNING)


# ---- Commands ----


def command() -> None:
    """Choose the release of the API that starts next: the channel's, the last good one, or the image's own."""
    store = Store()
    with release_store.locked(store):
        channel = Channel(os.environ.get("ZMANIM_ENVIRONMENT", ""))
        status = adopt(store, channel, Machine(restarts_of_the_api, database_answers))
        release_store.tell(store, status)
    log(f"{status.version}: {status.why}")
    mail(store)


def migration_failed_command() -> None:
    """Take a release on trial back whose migration failed, and start the one before it."""
    store = Store()
    with release_store.locked(store):
        state = release_store.load(store)
        if state.trial is None or state.trial.release != linked(store, CURRENT):
            log("the release whose migration failed is not on trial: the API stays down until it is mended")
            return
        if not database_answers():
            log("the database does not answer: that is not held against the release")
            return
        take_back(store, state, "its migration failed, see zmanim-migrate.service")
    run(["systemctl", "reset-failed", MIGRATE], timeout=10)
    run(["systemctl", "start", "--no-block", API], timeout=10)
    mail(store)


def allow_command(sha256: str) -> None:
    """Let this machine try a bundle again that failed on it; BUNDLE is its SHA-256, or `all`."""
    if sha256 != "all" and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise HostError(f"{sha256[:80]!r} is no SHA-256 of a bundle, nor all")
    store = Store()
    with release_store.locked(store):
        state = release_store.load(store)
        left = () if sha256 == "all" else tuple(each for each in state.denied if each != sha256)
        release_store.save(store, replace(state, denied=left))
    log(f"{len(state.denied) - len(left)} bundles may be tried again: systemctl restart {API}")
