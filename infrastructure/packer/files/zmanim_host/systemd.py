"""What we ask of systemd, and the units of ours that are asked about by name."""

from __future__ import annotations

from zmanim_host.host import ANSWER_SECONDS, run

API = "zmanim-api.service"
MIGRATIONS = "zmanim-migrate.service"
POSTGRESQL = "postgresql.service"
REDIS = "redis.service"
STORES = (POSTGRESQL, REDIS)


def properties(unit: str, *names: str) -> dict[str, str]:
    """Return properties of a unit, such as ActiveState, as systemd says them."""
    output = run(["systemctl", "show", f"--property={','.join(names)}", unit], timeout=ANSWER_SECONDS).stdout
    return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)


def active_state(unit: str) -> str:
    """Return a unit's ActiveState: active, activating (waiting for its next automatic start, too), inactive, failed."""
    return properties(unit, "ActiveState").get("ActiveState", "")


def systemctl(*arguments: str) -> int:
    """Run systemctl to its end and return its exit code; HostError when it does not end at all."""
    # Its words are systemd's own in the journal of the unit that is meant.
    return run(["systemctl", *arguments], timeout=900, may_exit=range(256)).returncode
