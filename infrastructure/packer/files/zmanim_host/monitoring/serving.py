"""Whether this machine serves now, looked at every minute: in /run/zmanim/serving.json.

Of what zmanim-ready looks at once a boot, that part which decides whether somebody who asks is served. A unit that
failed beside it (a backup, say) has its own mail and its own alarm.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from zmanim_host import readiness
from zmanim_host.host import ERROR, NOTICE, RUN, log, write_whole
from zmanim_host.storage import redis_checks, swap
from zmanim_host.storage.data_layout import DATA

STATUS = RUN / "serving.json"
# Of the look before: one that is older than two minutes says nothing of now.
STALE = 150.0

Now = Callable[[], float]


def now() -> float:
    """Return seconds since the machine booted: a clock that is set back makes nothing fresh."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def check_api() -> str:
    """The API answers, and no restore that was cut short keeps it away."""
    swap.check_none(DATA)
    readiness.ask_health()
    return ""


CHECKS: Mapping[str, Callable[[], str]] = {
    "api": check_api,
    "postgresql": readiness.check_postgresql,
    "redis": redis_checks.check_alive,
}


def look(checks: Mapping[str, Callable[[], str]] = CHECKS) -> dict[str, str]:
    """Run every check; return why the failed ones did, by their names."""
    outcomes = {name: readiness.attempt(check) for name, check in checks.items()}
    return {name: check.detail for name, check in outcomes.items() if not check.ok}


def write(failed: Mapping[str, str], file: Path = STATUS, clock: Now = now) -> None:
    """Write down what was found; the journal hears of a change."""
    before, after = read(file, clock), not failed
    if failed and before is not False:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in failed.items())
        log(f"this machine does not serve, and sends no metric Ready: {reasons}", ERROR)
    elif after and before is False:
        log("this machine serves again", NOTICE)
    write_whole(file, json.dumps({"serves": after, "at": clock(), "failed": dict(failed)}) + "\n")


def read(file: Path = STATUS, clock: Now = now) -> bool | None:
    """Return whether this machine serves, None when nobody has looked of late."""
    try:
        status = json.loads(file.read_text("utf-8"))
        return bool(status["serves"]) if 0 <= clock() - float(status["at"]) <= STALE else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def command() -> None:
    """Look whether this machine serves."""
    # No failure of the unit: what is wrong has one already, and this is asked every minute.
    write(look())
