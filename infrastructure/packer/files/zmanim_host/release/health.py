"""Whether the API answers: a hang ends in a restart, a release on probation that fails is rolled back, one that
stays well becomes the last good one.

A timer asks every few seconds. Not counted: the API while it is not running or has just begun (systemd restarts what
ended), and anything at all while PostgreSQL does not answer, for then /health rightly says 503.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from zmanim_host import systemd
from zmanim_host.host import ANSWER_SECONDS, ERROR, NOTICE, RUN, WARNING, HostError, locked, log, run, write_whole
from zmanim_host.release import adopt
from zmanim_host.release.store import CURRENT, LAST_GOOD, Status, Store

HEALTH = "http://127.0.0.1:8080/health"
HEALTH_SECONDS = 3.0
# The API may take this long from its start until it answers: it waits up to 10 s for PostgreSQL.
START_SECONDS = 10.0
NOTES = RUN / "health.json"
# For tests; by the unit's Environment=.
FAILURES = "ZMANIM_HEALTH_FAILURES"
PROBATION_SECONDS = "ZMANIM_PROBATION_SECONDS"


@dataclass(frozen=True)
class Notes:
    """What one look leaves for the next. `run` is systemd's id of the API's run; times are monotonic seconds."""

    run: str = ""
    failures: int = 0
    well_since: float = 0.0


@dataclass(frozen=True)
class Api:
    """The API's unit as systemd sees it: the id of its run, and for how many seconds it has been running (0: not)."""

    run: str
    seconds: float


@dataclass(frozen=True)
class Limits:
    """How many failures in a row are a hang, and how many seconds a release has to be well to be the last good one."""

    failures: int = 3
    probation_seconds: float = 60.0


def after_answer(notes: Notes, api: Api, now: float) -> Notes:
    """Return the notes after a good answer."""
    since = notes.well_since if notes.run == api.run and notes.well_since else now
    return Notes(api.run, 0, since)


def after_failure(notes: Notes, api: Api) -> Notes:
    """Return the notes after a bad answer or none; failures of an earlier run do not count."""
    return Notes(api.run, (notes.failures if notes.run == api.run else 0) + 1, 0.0)


def get_health(url: str = HEALTH, seconds: float = HEALTH_SECONDS) -> str:
    """Return what /health answers; HostError unless that is 200 and whole within `seconds`."""
    options = [
        "--silent",
        "--show-error",
        "--noproxy",
        "*",
        "--max-time",
        f"{seconds}",
        "--write-out",
        "\n%{http_code}",
    ]
    done = run(["curl", *options, url], timeout=seconds + ANSWER_SECONDS, may_exit=range(256))
    body, _, status = done.stdout.rpartition("\n")
    if done.returncode:
        raise HostError(f"/health does not answer ({done.stderr.strip()})")
    if status != "200":
        raise HostError(f"/health answers {status}")
    return body


def read_notes(path: Path = NOTES) -> Notes:
    """Return the last look's notes, or new ones."""
    try:
        return Notes(**json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError):
        return Notes()


def look(
    store: Store,
    limits: Limits,
    notes: Notes,
    *,
    ask: Callable[[], object],
    api: Callable[[], Api],
    database_answers: Callable[[], bool],
    restart: Callable[[], None],
    clock: Callable[[], float] = time.monotonic,
) -> Notes:
    """Look once, do what follows from it, and return the notes for the next look.

    Raises HostError and OSError when what follows can't be done.
    """
    wrong = ""
    try:
        ask()
    except HostError as error:
        wrong = str(error)
    seen = api()
    if not seen.seconds:
        return Notes()
    if not wrong:
        after = after_answer(notes, seen, clock())
        if clock() - after.well_since >= limits.probation_seconds:
            _promote(store)
        return after
    if seen.seconds < START_SECONDS:
        return replace(notes, well_since=0.0)
    if not database_answers():
        log(f"{wrong}, and PostgreSQL does not answer either: the API is not to blame", NOTICE)
        return Notes(seen.run)
    after = after_failure(notes, seen)
    log(f"{wrong} (failure {after.failures} of {limits.failures})", WARNING)
    if after.failures < limits.failures:
        return after
    _restart_or_roll_back(store, wrong, restart)
    return Notes()


def _promote(store: Store) -> None:
    with locked(store.releases):
        state, running = store.load(), store.linked(CURRENT)
        if state.probation is None or state.probation.release != running:
            return
        # First the link: a power cut in between leaves it on probation, and it is promoted again.
        store.point(LAST_GOOD, running)
        store.save(replace(state, probation=None))
        store.prune()
        status = store.read_status() or Status(running.version, "from the channel")
        store.write_status(replace(status, on_probation=False, why=status.why.replace(", on probation", "")))
    log(f"{running.version} has passed its probation: it is the last good release now", NOTICE)


def _restart_or_roll_back(store: Store, wrong: str, restart: Callable[[], None]) -> None:
    with locked(store.releases):
        try:
            state = store.load()
            if state.probation is not None and state.probation.release == store.linked(CURRENT):
                adopt.roll_back(store, state, wrong)
        except HostError as error:
            log(f"no release is rolled back: {error}", WARNING)
    log(f"{wrong}: restarting {systemd.API}", ERROR)
    restart()


def unit() -> Api:
    """Return the API's unit as it is now."""
    names = ("ActiveState", "InvocationID", "ActiveEnterTimestampMonotonic")
    values = systemd.properties(systemd.API, *names)
    since = int(values.get("ActiveEnterTimestampMonotonic") or 0) / 1e6
    running = values.get("ActiveState") == "active"
    return Api(values.get("InvocationID", ""), max(0.001, time.monotonic() - since) if running else 0.0)


def restart_api() -> None:
    """Restart the API without waiting: its start comes back to our own lock."""
    run(["systemctl", "restart", "--no-block", systemd.API], timeout=ANSWER_SECONDS)


def command() -> None:
    """Ask the API for its health, and act when it fails or has proven itself."""
    store = Store()
    limits = Limits(int(os.environ.get(FAILURES, "3")), float(os.environ.get(PROBATION_SECONDS, "60")))
    answers = adopt.database_answers
    try:
        after = look(
            store, limits, read_notes(), ask=get_health, api=unit, database_answers=answers, restart=restart_api
        )
    except (HostError, OSError) as error:
        # The next look is seconds away; a unit that fails and recovers all the time would tell nobody more.
        log(f"could not do what the API's health asks for: {error}", ERROR)
        return
    adopt.mail(store)
    status = store.read_status()
    if after.failures or (status and status.on_probation):
        write_whole(NOTES, json.dumps(asdict(after)) + "\n")
    else:
        # check-health.sh asks by itself from now on.
        NOTES.unlink(missing_ok=True)
