"""What becomes of a machine that is not ready: it powers itself off, if its launch says so.

In a unit of its own: whoever asks the metadata service can be given the instance's role, and zmanim-ready, which finds
out whether the machine is ready, runs programs as the API's user. Another process of that user may write into those.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from zmanim_host.aws.imds import connect, instance_tag
from zmanim_host.host import HostError, log, run, write_console
from zmanim_host.readiness import REPORT, was_ready

# The launch's tag that says what a machine does that is not ready.
ON_FAILURE_TAG = "zmanim:on-failure"
POWER_OFF = "poweroff"


def is_to_power_off(tag: Callable[[], str | None] = lambda: instance_tag(connect(wait=5), ON_FAILURE_TAG)) -> bool:
    """Return whether the launch wants a machine off that is not ready; not when nobody can say."""
    try:
        return tag() == POWER_OFF
    except HostError as error:
        log(f"the machine stays on, as its tag {ON_FAILURE_TAG} could not be read: {error}")
        return False


def decide(
    report: Path = REPORT,
    *,
    may_power_off: Callable[[], bool] = is_to_power_off,
    console: Callable[[str], None] = write_console,
) -> None:
    """Power this machine off if it never came up since it booted and its launch says so. Raises HostError."""
    # A machine that serves and is asked again in a bad moment stays on: this is for one that never came up.
    if was_ready(report) or not may_power_off():
        return
    console(f"zmanim is not ready: powering off, as the launch says ({ON_FAILURE_TAG}={POWER_OFF})\n")
    run(["systemctl", "--no-block", "poweroff"], timeout=30)


def command() -> None:
    """Power a machine off that is not ready, if its launch says so."""
    decide()
