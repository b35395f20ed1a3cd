"""Starting what waits for secrets or for a store, once it is there: as long as it takes, without anybody's hand."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from zmanim_host.host import RUN, WARNING, HostError, log, write_console
from zmanim_host.storage import reserve
from zmanim_host.storage.data_layout import DATA
from zmanim_host.systemd import API, POSTGRESQL, REDIS, STORES, active_state, properties, systemctl

FETCHING = "zmanim-secrets.service"
READY = "zmanim-ready.service"
RECOVERY = "zmanim-recovery.service"

# Runs systemctl with these arguments and returns its exit code.
Systemctl = Callable[..., int]
# Returns a unit's ActiveState.
State = Callable[[str], str]


def recover(
    pause: float,
    *,
    systemctl: Systemctl = systemctl,
    state: State = active_state,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Wait, looking every `pause` seconds, until there are secrets and PostgreSQL no longer tries; then start the API.

    What needs them is asked for once and not waited for: where the data volume is refused, or a migration fails, that
    stays so. Raises HostError when systemd itself does not answer.
    """
    while True:
        sleep(pause)
        if systemctl("start", FETCHING) == 0:
            break
        log(f"the secrets could not be fetched yet (journalctl --unit={FETCHING}); trying again in {pause:.0f} s")
    # Between two tries it is activating, deactivating or failed for a moment; inactive is one that was refused, or that
    # somebody stopped.
    while state(POSTGRESQL) not in {"active", "inactive"}:
        sleep(pause)
    if state(API) == "active":
        return  # it was never away, or somebody was faster
    log(f"the secrets are fetched: starting {REDIS} and {API}")
    if systemctl("--no-block", "start", REDIS, API) or systemctl("--no-block", "restart", READY):
        raise HostError(f"systemd refuses to start {REDIS}, {API} and {READY}: see the journal")


def recovering(unit: str, ask: Callable[..., Mapping[str, str]] = properties) -> str:
    """Return since when a store has been starting, with its own status if it gives one; nothing when it is not."""
    values = ask(unit, "SubState", "InactiveExitTimestamp", "StatusText")
    # Not auto-restart: that is one that has ended.
    if values.get("SubState") not in {"start-pre", "start"}:
        return ""
    status = values.get("StatusText", "")
    since = f"{unit} has been recovering since {values.get('InactiveExitTimestamp') or 'its start'}"
    return f"{since} ({status})" if status else since


def recovering_command() -> None:
    """Say on the console which store is still recovering: zmanim-ready speaks only when they are done."""
    for text in filter(None, map(recovering, STORES)):
        write_console(f"\nzmanim-ready waits: {text}\n")
        log(text, WARNING)


def command() -> None:
    """Go on until the secrets can be had and PostgreSQL is up, then start what waits for them."""
    recover(float(os.environ["ZMANIM_RECOVERY_PAUSE"]))


def after_a_store(result: str, api: str, *, reported_ready: bool, systemctl: Systemctl = systemctl) -> bool:
    """Have the API started again after a store has stopped, if it has to be; return whether.

    systemd starts the store again by itself. But when its first try fails it cancels the start of what requires it,
    for good: after a night with a full disk both stores were back, and the API was not. `result` is the store's
    $SERVICE_RESULT, `api` the API's ActiveState: what an operator has stopped stays so. `reported_ready`: before a boot
    has reported, an API that does not run is one that waits.
    """
    wanted = api in {"active", "activating"} or not reported_ready
    if result == "success" or not wanted:
        return False
    # Not waited for: it is ordered after nothing of ours, but this store's own next start waits for this program.
    return systemctl("--no-block", "start", RECOVERY) == 0


def store_command() -> None:
    """Give a full volume's reserve up, and have the API started again if this store takes it down (ExecStopPost=)."""
    # A store that was told to stop, as its machine is, needs no room now.
    if os.environ.get("SERVICE_RESULT", "") != "success":
        reserve.give_up(DATA)
    if after_a_store(
        os.environ.get("SERVICE_RESULT", ""), active_state(API), reported_ready=(RUN / "ready.json").exists()
    ):
        log(f"{RECOVERY} starts {API} when PostgreSQL is up again")
