"""What waited for the secrets is started once they are there, and nothing else is."""

from __future__ import annotations

import pytest

from zmanim_host.host import HostError
from zmanim_host.readiness import or_recovering
from zmanim_host.recovery import after_a_store, recover, recovering
from zmanim_host.systemd import POSTGRESQL

AT = "Sun 2026-11-29 03:00:00 UTC"


@pytest.mark.parametrize(
    ("state", "status", "expected"),
    [
        ("start", "", f"postgresql.service has been recovering since {AT}"),
        ("start-pre", "Loading", f"postgresql.service has been recovering since {AT} (Loading)"),
        # Between two tries it recovers nothing.
        ("auto-restart", "", ""),
        ("running", "Ready", ""),
    ],
)
def test_a_store_that_recovers_is_told_from_one_that_does_not(state: str, status: str, expected: str) -> None:
    def ask(unit: str, *names: str) -> dict[str, str]:
        values = {"SubState": state, "InactiveExitTimestamp": AT, "StatusText": status}
        return {name: values[name] for name in names}

    assert recovering(POSTGRESQL, ask) == expected


def test_a_failed_check_of_a_store_says_since_when_it_has_been_recovering() -> None:
    def check() -> str:
        raise HostError("the database system is starting up")

    with pytest.raises(HostError, match="is starting up; recovering since three"):
        or_recovering(check, POSTGRESQL, lambda unit: "recovering since three")()
    with pytest.raises(HostError, match=r"is starting up$"):
        or_recovering(check, POSTGRESQL, lambda unit: "")()
    assert or_recovering(lambda: "17", POSTGRESQL, lambda unit: "not asked")() == "17"


class Systemd:
    """What systemctl answers, call by call (0 when nothing is planned), and what it was asked."""

    def __init__(self, *codes: int) -> None:
        self.codes = list(codes)
        self.asked: list[str] = []

    def __call__(self, *arguments: str) -> int:
        self.asked.append(" ".join(arguments))
        return self.codes.pop(0) if self.codes else 0


def stopped(unit: str) -> str:
    """Every unit is inactive."""
    return "inactive"


def test_it_tries_until_the_secrets_are_there_and_then_starts_what_needs_them() -> None:
    systemd, pauses = Systemd(1, 1, 0), list[float]()
    recover(30, systemctl=systemd, state=stopped, sleep=pauses.append)
    assert pauses == [30, 30, 30], "it never tries at once: the unit has only just failed"
    assert systemd.asked == [
        *["start zmanim-secrets.service"] * 3,
        "--no-block start redis.service zmanim-api.service",
        "--no-block restart zmanim-ready.service",
    ]


def test_systemd_that_takes_nothing_is_an_error_and_not_the_end() -> None:
    with pytest.raises(HostError, match=r"refuses to start redis\.service"):
        recover(1, systemctl=Systemd(0, 1), state=stopped, sleep=lambda seconds: None)


def test_it_waits_for_a_postgresql_that_tries_again_and_again() -> None:
    systemd, states = Systemd(), ["activating", "deactivating", "failed", "active"]
    recover(
        1,
        systemctl=systemd,
        state=lambda unit: states.pop(0) if unit == POSTGRESQL else "inactive",
        sleep=lambda _: None,
    )
    assert states == []
    assert "--no-block start redis.service zmanim-api.service" in systemd.asked


def test_an_api_that_serves_is_left_alone() -> None:
    systemd = Systemd()
    recover(1, systemctl=systemd, state=lambda unit: "active", sleep=lambda _: None)
    assert systemd.asked == ["start zmanim-secrets.service"]


@pytest.mark.incident("after a night with a full disk both stores were back, and the API was not")
@pytest.mark.parametrize(
    ("result", "api", "reported_ready", "expected"),
    [
        ("exit-code", "active", True, True),
        ("signal", "activating", True, True),
        # A boot that has not spoken yet: its API waits for the store.
        ("exit-code", "inactive", False, True),
        # Stopped by an operator, and staying so.
        ("exit-code", "inactive", True, False),
        ("success", "active", True, False),
        ("success", "inactive", False, False),
    ],
)
def test_a_store_that_fails_brings_the_api_back_unless_somebody_stopped_it(
    result: str, api: str, reported_ready: bool, expected: bool
) -> None:
    systemd = Systemd()
    assert after_a_store(result, api, reported_ready=reported_ready, systemctl=systemd) is expected
    assert systemd.asked == (["--no-block start zmanim-recovery.service"] if expected else [])
