"""Adopting what was fetched, and rolling back what fails: as root, without a network, believing nothing.

Every start of the API comes through `command`. It never fails as long as there is anything to start: a channel that
can't be followed leaves in force what is.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from zmanim_host import notices, systemd
from zmanim_host.host import ANSWER_SECONDS, ERROR, WARNING, HostError, locked, log, read_plain, run
from zmanim_host.postgres import Server
from zmanim_host.release import bundle, pointer, rules
from zmanim_host.release.fetch import BUNDLE, POINTER
from zmanim_host.release.pointer import KEYS
from zmanim_host.release.rules import Release, State
from zmanim_host.release.store import CURRENT, LAST_GOOD, Status, Store

FETCHED = Path("/var/lib/zmanim-release")
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
    store.sweep()
    running = _repair_link(store)
    try:
        state = store.load()
    except HostError as error:
        return Status(running.version, f"no release channel is followed: {error}")
    try:
        state = _judge_probation(store, state, machine)
        state, reason = _follow(store, state, channel, machine)
    except (HostError, OSError) as error:
        reason = f"the channel is not followed: {error}"
        # What was decided before it went wrong is written down already.
        with suppress(HostError):
            state = store.load()
    return status_of(state, store.linked(CURRENT) or running, store.baked(), reason)


def status_of(state: State, running: Release, baked: Release, reason: str) -> Status:
    """Return what is told of the release in force."""
    on_probation = state.probation is not None and state.probation.release == running
    origin = "the image's own release" if running == baked else "from the channel"
    why = f"{origin}{', on probation' if on_probation else ''}; {reason}"
    run_migrations = state.rolled_back_to != running.version
    if not run_migrations:
        why += "; after an automatic rollback: no migration is run"
    return Status(running.version, why, on_probation, run_migrations, state.serial)


def _repair_link(store: Store) -> Release:
    """Return what the link says; where it leads to nothing whole, let it lead to the last good one or the image's."""
    own, running = store.baked(), store.linked(CURRENT)
    if running is None:
        running = store.linked(LAST_GOOD) or own
        log(f"the link `{CURRENT}` led to no complete release: it leads to {running.version} now", WARNING)
        store.point(CURRENT, running)
    return running


def _judge_probation(store: Store, state: State, machine: Machine) -> State:
    """Roll back a release on probation that has ended by itself too often, unless the database was the reason."""
    probation, running = state.probation, store.linked(CURRENT)
    if probation is None:
        if running is None or running.sha256 not in state.denied or running == store.linked(LAST_GOOD):
            return state
        # A power cut between the note and the link: not on probation, nobody would ever judge it again.
        reason = "it was being rolled back when the power went"
    elif probation.release != running:  # a power cut between the note and the link, or another root disk
        return store.save(replace(state, probation=None))
    else:
        restarts = machine.restarts()
        crashes = rules.crashes(probation, restarts)
        if crashes < rules.MOST_CRASHES:
            # Fewer than when it began: somebody started the unit, and systemd counts anew.
            anew = replace(state, probation=replace(probation, restarts=0))
            return state if restarts >= probation.restarts else store.save(anew)
        if not machine.database_answers():
            log(f"{running.version} ended {crashes} times while the database did not answer: not to blame", WARNING)
            return store.save(replace(state, probation=replace(probation, restarts=restarts)))
        reason = f"it ended by itself {crashes} times"
    try:
        return roll_back(store, state, reason)
    except HostError as error:
        # A newer release in the channel may still mend it.
        log(f"the running release can't be rolled back ({reason}): {error}", ERROR)
        return state


def roll_back(store: Store, state: State, reason: str) -> State:
    """Go back from the release in force to the last good one, and never try it again; return the new state.

    It runs no SQL, and leaves what is to be mailed about it. Raises HostError when there is nothing to go back to,
    OSError when nothing can be written.
    """
    failed, own = store.linked(CURRENT), store.baked()
    if failed is None or failed == own:
        raise HostError("what runs is the image's own release: there is none to go back to")
    denied = replace(state, denied=(*state.denied, failed.sha256))
    target = rules.fall_back(denied, last_good=store.linked(LAST_GOOD), baked=own)
    state = store.save(rules.deny(state, failed, target))
    store.point(CURRENT, target)
    log(
        f"{failed.version} is rolled back ({reason}): {target.version} runs, and {failed.version} is not tried again",
        ERROR,
    )
    try:
        notices.enqueue(store.notices, notices.RolledBack(failed.version, target.version, reason, time.time()))
    except OSError as error:
        # It is done, and the API has to start: that nobody hears of it must not be in its way.
        log(f"that {failed.version} is rolled back can't be mailed: {error}", ERROR)
    return state


def _follow(store: Store, state: State, channel: Channel, machine: Machine) -> tuple[State, str]:
    """Bring into force what the pointer that was fetched says; return the state and what is to say of it."""
    own, environment = store.baked(), channel.environment
    running = store.linked(CURRENT) or own
    if not pointer.is_release(own.version):
        return state, f"a test image follows no channel ({own.version})"
    if not environment:
        return state, "no channel is followed: this machine does not know its environment"
    if not (channel.keys / f"{environment}.pem").is_file():
        return state, f"this image has no key for the channel of {environment}: it follows none"
    content = read_plain(channel.fetched, POINTER, pointer.LONGEST)
    if content is None:
        return state, f"nothing is known of the channel of {environment}"
    named = pointer.read(content, environment, channel.keys)
    rules.check_serial(named, state, pointer.floor(environment, channel.keys))
    if rules.seen(state, named) != state:
        state = store.save(rules.seen(state, named))
    wanted = rules.choose(named, state, running=running, baked=own, now=machine.now())
    if wanted != running:
        if wanted not in store.installed():
            archive = read_plain(channel.fetched, BUNDLE, named.size)
            if archive is None:
                raise HostError(f"the bundle of {wanted.version} has not been fetched")
            bundle.check_whole(archive, sha256=named.sha256, size=named.size)
            store.install(wanted, archive)
        proven = wanted in (own, store.linked(LAST_GOOD))
        # First the note, then the link: what is in force without having been noted would never be judged.
        state = store.save(rules.begin(state, wanted, proven=proven, restarts=machine.restarts()))
        store.point(CURRENT, wanted)
        store.prune()
        log(f"{wanted.version} is the current release now")
    older = "" if wanted.version == named.version else ", which is older"
    return state, f"the channel's serial {named.serial} names {named.version}{older}"


# ---- The machine itself ----


def restarts_of_the_api() -> int:
    """Return how often systemd has restarted the API since somebody started it."""
    restarts = systemd.properties(systemd.API, "NRestarts").get("NRestarts", "")
    return int(restarts) if restarts.isdigit() else 0


def database_answers() -> bool:
    """Return whether PostgreSQL answers the API's own user: if not, no release is to blame for anything."""
    try:
        return Server(user="zmanim").psql("--command=SELECT 1", timeout=ANSWER_SECONDS).strip() == "1"
    except HostError:
        return False


def mail(store: Store) -> None:
    """Start the sending of what was left to be mailed, if anything was; the timer tries again what can't be started."""
    if not notices.pending(store.notices):
        return
    try:
        run(["systemctl", "start", "--no-block", MAIL], timeout=ANSWER_SECONDS)
    except HostError as error:
        log(f"{MAIL} could not be started, its timer starts it later: {error}", WARNING)


# ---- Commands ----


def command() -> None:
    """Choose the release of the API that starts next: the channel's, the last good one, or the image's own."""
    store = Store()
    with locked(store.releases):
        channel = Channel(os.environ.get("ZMANIM_ENVIRONMENT", ""))
        status = adopt(store, channel, Machine(restarts_of_the_api, database_answers))
        store.write_status(status)
    log(f"{status.version}: {status.why}")
    mail(store)


def migration_failed_command() -> None:
    """Roll back a release on probation whose migration failed, and start the one before it."""
    store = Store()
    with locked(store.releases):
        state = store.load()
        if state.probation is None or state.probation.release != store.linked(CURRENT):
            log("the release whose migration failed is not on probation: the API stays down until it is repaired")
            return
        if not database_answers():
            log("the database does not answer: that is not held against the release")
            return
        roll_back(store, state, f"its migration failed, see {systemd.MIGRATIONS}")
    run(["systemctl", "reset-failed", systemd.MIGRATIONS], timeout=ANSWER_SECONDS)
    run(["systemctl", "start", "--no-block", systemd.API], timeout=ANSWER_SECONDS)
    mail(store)


def allow_command(sha256: str) -> None:
    """Let this machine try a bundle again that failed on it; BUNDLE is its SHA-256, or `all`."""
    if sha256 != "all" and not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise HostError(f"{sha256[:80]!r} is no SHA-256 of a bundle, nor all")
    store = Store()
    with locked(store.releases):
        state = store.load()
        denied = () if sha256 == "all" else tuple(each for each in state.denied if each != sha256)
        store.save(replace(state, denied=denied))
    log(f"{len(state.denied) - len(denied)} bundles may be installed again. Now: systemctl restart {systemd.API}")
