"""Reading parameters: patient, closed on failure, and silent about values."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.aws_server import PATH, Answer, Received, answering, page
from zmanim_host.aws.client import get_parameters_by_path
from zmanim_host.host import Clock, HostError
from zmanim_host.secrets.parameters import fetch_required

GOOD = {"jwt-secret": "s3cret", "redis-password": "s3cret"}


class Sleeper:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []
        self.clock = Clock(lambda: self.now, self.sleep)

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
    sleeper = Sleeper()
    fetch = answers(HostError("ThrottlingException"), HostError("AccessDeniedException"), {"jwt-secret": "x"}, GOOD)
    assert fetch_required("/zmanim/prod/", fetch=fetch, patience=120, clock=sleeper.clock) == GOOD
    assert sleeper.pauses == [1.0, 2.0, 4.0]


@pytest.mark.incident("SSM errors were taken for an optional secret that is missing")
def test_patience_ends_with_the_reason_that_aws_gave() -> None:
    sleeper = Sleeper()
    with pytest.raises(HostError, match="AccessDeniedException"):
        fetch_required("/p/", fetch=answers(HostError("AccessDeniedException")), patience=120, clock=sleeper.clock)
    assert sleeper.now <= 120


def test_what_is_there_is_known_though_a_secret_is_missing() -> None:
    """Whoever mails that a secret is missing has to know to whom."""
    sleeper, known = Sleeper(), {"mail-to": "a@example.org"}
    seen: list[object] = []
    with pytest.raises(HostError, match="redis-password"):
        fetch_required("/p/", fetch=answers(known), patience=1, clock=sleeper.clock, seen=seen.append)
    assert seen == [known]


@pytest.mark.parametrize("value", [None, ""])
def test_a_missing_or_empty_required_parameter_is_named_with_its_path(value: str | None) -> None:
    sleeper = Sleeper()
    values = {"jwt-secret": "s3cret"} | ({} if value is None else {"redis-password": value})
    with pytest.raises(HostError, match="/zmanim/prod/redis-password") as raised:
        fetch_required("/zmanim/prod/", fetch=answers(values), patience=120, clock=sleeper.clock)
    assert "s3cret" not in str(raised.value)


def refused(code: str) -> tuple[int, bytes]:
    return 400, b'{"__type":"%s","message":"of AWS"}' % code.encode()


def in_turn(*planned: tuple[int, bytes] | Iterator[bytes]) -> Answer:
    queue = list(planned)

    def answer(request: Received) -> tuple[int, bytes] | Iterator[bytes]:
        return queue.pop(0) if len(queue) > 1 else queue[0]

    return answer


def silence() -> Iterator[bytes]:
    time.sleep(4)
    yield b""


@pytest.mark.fault(
    42,
    injected="throttling, a denial, an error 500, silence, an empty page and one with a token",
    must="each is waited out with growing pauses, and no value is told",
)
def test_each_fault_of_parameter_store_is_got_over_in_the_end(capsys: pytest.CaptureFixture[str]) -> None:
    sleeper = Sleeper()
    answer = in_turn(
        refused("ThrottlingException"),
        refused("AccessDeniedException"),
        (500, b"<html>"),
        silence(),
        page({}),
        page({}, "more"),
        page({"jwt-secret": "s3cret"}, "more"),
        page({"redis-password": "s3cret"}),
    )
    with answering(answer) as server:
        result = fetch_required(
            PATH,
            patience=120,
            fetch=lambda path: get_parameters_by_path(server.session, path, seconds=2),
            clock=sleeper.clock,
        )
    assert result == GOOD
    assert sleeper.pauses == [1, 2, 4, 8, 15]
    output = capsys.readouterr().err
    for reason in (
        f"Parameter Store refuses {PATH}: ThrottlingException of AWS; trying again in 1 s",
        f"Parameter Store refuses {PATH}: AccessDeniedException of AWS; trying again in 2 s",
        f"Parameter Store refuses {PATH}: 500; trying again in 4 s",
        f"{PATH}: ssm.eu-west-1.amazonaws.com: no whole answer within 2 s; trying again in 8 s",
        f"missing or empty in Parameter Store: {PATH}redis-password, {PATH}jwt-secret; trying again in 15 s",
    ):
        assert reason in output
    assert "s3cret" not in output


@pytest.mark.parametrize("code", ["ThrottlingException", "AccessDeniedException", "InternalServerError"])
def test_an_error_that_stays_ends_closed_with_the_path(code: str) -> None:
    sleeper = Sleeper()
    with answering(lambda request: refused(code)) as server, pytest.raises(HostError) as raised:
        fetch_required(
            PATH,
            patience=120,
            fetch=lambda path: get_parameters_by_path(server.session, path),
            clock=sleeper.clock,
        )
    assert str(raised.value) == f"the secrets can't be had: Parameter Store refuses {PATH}: {code} of AWS"
