"""Reading parameters: patient, closed on failure, and silent about values."""

from __future__ import annotations

import pytest
from zmanim_host.host import HostFault
from zmanim_host.parameters import fetch_required

GOOD = {"jwt-secret": "s3cret", "redis-password": "s3cret"}


class Clock:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def answers(*planned: dict[str, str] | Exception):  # type: ignore[no-untyped-def]  # a closure over an iterator
    queue = list(planned)

    def fetch(path: str) -> dict[str, str]:
        answer = queue.pop(0) if len(queue) > 1 else queue[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return fetch


def test_an_outage_is_waited_out_with_growing_pauses() -> None:
    clock = Clock()
    fetch = answers(HostFault("ThrottlingException"), HostFault("AccessDeniedException"), {"jwt-secret": "x"}, GOOD)
    assert fetch_required("/zmanim/prod/", fetch=fetch, patience=120, sleep=clock.sleep, clock=clock) == GOOD
    assert clock.pauses == [1.0, 2.0, 4.0]


@pytest.mark.incident("SSM errors were taken for an optional secret that is missing")
def test_patience_ends_with_the_reason_that_aws_gave() -> None:
    clock = Clock()
    with pytest.raises(HostFault, match="AccessDeniedException"):
        fetch_required(
            "/p/", fetch=answers(HostFault("AccessDeniedException")), patience=120, sleep=clock.sleep, clock=clock
        )
    assert clock.now <= 120


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_required_parameter_is_named_with_its_path(value: str | None) -> None:
    clock = Clock()
    values = {"jwt-secret": "s3cret"} | ({} if value is None else {"redis-password": value})
    with pytest.raises(HostFault, match="/zmanim/prod/redis-password") as raised:
        fetch_required("/zmanim/prod/", fetch=answers(values), patience=120, sleep=clock.sleep, clock=clock)
    assert "s3cret" not in str(raised.value)
