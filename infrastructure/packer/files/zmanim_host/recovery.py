"""Starting what waited for secrets, once there are some: for as long as it takes, without anybody's hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from zmanim_host.host import HostFault, log, run
from zmanim_host.parameters import API, REDIS

FETCHING = "zmanim-secrets.service"
READY = "zmanim-ready.service"

# Runs systemctl with these arguments and returns its exit code.
Systemctl = Callable[..., int]


def systemctl(*arguments: str) -> int:
    """Run systemctl to its end and return its exit code; HostFault when it does not end at all."""
    # Its words are systemd's own in the journal of the unit that is meant.
    return run(["systemctl", *arguments], timeout=900, may_exit=range(256)).returncode


def recover(pause: float, *, systemctl: Systemctl = systemctl, sleep: Callable[[float], None] = time.sleep) -> None:
    """Try to fetch the secrets, `pause` seconds apart, until it works; then start what needs them.

    What needs them is asked for once and not waited for: where the data volume is refused, or a migration fails, that
    stays so. Raises HostFault when systemd itself does not answer.
    """
    while True:
        sleep(pause)
        if systemctl("start", FETCHING) == 0:
            break
        log(f"the secrets can't be had yet (journalctl --unit={FETCHING}); trying again in {pause:.0f} s")
    log(f"the secrets are there: starting {REDIS} and {API}")
    if systemctl("--no-block", "start", REDIS, API) or systemctl("--no-block", "restart", READY):
        raise HostFault(f"systemd does not take {REDIS}, {API} and {READY}: see the journal")


def command() -> None:
    """Go on until the secrets can be had, then start what waits for them."""
    recover(float(os.environ["ZMANIM_RECOVERY_PAUSE"]))
