"""What the console says is true, whole, and on one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmanim_host import readiness
from zmanim_host.host import FaultNotes, HostFault
from zmanim_host.readiness import Check, attempt, check_units, console_line, mapped_binary, redis_verdict, report

GOOD_REDIS = (
    "OK\n42\n# Persistence\nloading:0\naof_enabled:1\nrdb_last_bgsave_status:ok\naof_last_write_status:ok\n"
    "# Server\nredis_version:7.2.16\n"
)


def told(**checks: Check) -> bool:
    whole = report(checks, version="v1.2.3", environment="verify", binary_sha256="", seconds=6.14, health=None)
    assert whole["seconds"] == 6.1
    ok: bool = whole["ok"]
    return ok


def test_one_failed_required_check_is_enough() -> None:
    assert told(one=Check(True), two=Check(True))
    assert not told(one=Check(True), two=Check(False))


def test_a_wanted_check_may_fail() -> None:
    assert told(one=Check(True), timers=Check(False, required=False))


@given(st.text(max_size=200))
def test_whatever_a_detail_holds_the_console_gets_one_line_of_ascii(detail: str) -> None:
    whole = report(
        {"x": Check(False, detail=detail)}, version="", environment="", binary_sha256="", seconds=1, health=None
    )
    line = console_line(whole)
    assert line.startswith("\nzmanim-ready {")
    assert line.isascii()
    assert line.strip("\n").count("\n") == 0
    assert json.loads(line.strip().removeprefix("zmanim-ready "))["checks"]["x"]["detail"] == detail


def test_a_fault_becomes_a_failed_check_with_its_text() -> None:
    def fails() -> str:
        raise HostFault("no such thing")

    assert attempt(fails, required=False) == Check(False, False, "no such thing")
    assert attempt(lambda: "17.11") == Check(True, True, "17.11")


def test_redis_is_well_when_it_gives_back_and_persists() -> None:
    assert redis_verdict(GOOD_REDIS) == "7.2.16"


@pytest.mark.incident("AOF was switched off over permission issues")
@pytest.mark.parametrize(
    ("well", "ill"),
    [
        ("aof_enabled:1", "aof_enabled:0"),
        ("aof_last_write_status:ok", "aof_last_write_status:err"),
        ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err"),
        ("42\n", "NOAUTH Authentication required.\n"),
    ],
)
def test_redis_that_forgets_is_not_well(well: str, ill: str) -> None:
    with pytest.raises(HostFault):
        redis_verdict(GOOD_REDIS.replace(well, ill))


def test_failed_units_come_with_the_reason_that_was_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    class Done:
        stdout = "zmanim-data-volume.service loaded failed failed Find zmanim's data volume\n"

    monkeypatch.setattr(readiness, "run", lambda *arguments, **named: Done)
    with pytest.raises(
        HostFault, match=r"failed: zmanim-data-volume\.service; data-volume: no data volume within 90 s"
    ):
        check_units({"data-volume": "no data volume within 90 s"})


def test_a_fault_is_noted_until_the_command_succeeds(tmp_path: Path) -> None:
    notes = FaultNotes(tmp_path / "faults")
    assert notes.all() == {}
    notes.put("secrets", "denied")
    assert notes.all() == {"secrets": "denied"}
    notes.clear("secrets")
    assert notes.all() == {}


def test_the_running_program_is_the_mapped_one_and_not_the_emulator() -> None:
    maps = (
        "00400000-00d00000 r--p 00000000 fd:00 11 /opt/zmanim/releases/v1.2.3/zmanim-api\n"
        "7f0000000000-7f0000400000 r-xp 00000000 fd:00 12 /usr/bin/qemu-aarch64-static\n"
        "7ffe00000000-7ffe00021000 rw-p 00000000 00:00 0  [stack]\n"
    )
    assert mapped_binary(maps) == "400000-d00000"
    with pytest.raises(HostFault, match="runs nothing below"):
        mapped_binary(maps.replace("/opt/zmanim/releases", "/tmp"))


def test_an_api_that_is_still_starting_is_waited_for() -> None:
    states = iter([HostFault("refused"), HostFault("refused"), {"data": {"status": "ok"}}])

    def ask() -> object:
        state = next(states)
        if isinstance(state, Exception):
            raise state
        return state

    found = readiness.wait_for_health(ask=ask, starting=lambda: True, sleep=lambda seconds: None)
    assert found == {"data": {"status": "ok"}}


def refuse() -> object:
    raise HostFault("refused")


def test_an_api_that_will_not_start_is_not_waited_for() -> None:
    with pytest.raises(HostFault, match="is not running"):
        readiness.wait_for_health(
            ask=refuse, starting=lambda: False, sleep=lambda seconds: pytest.fail("waited for nothing")
        )


def test_an_api_that_never_answers_ends_the_wait() -> None:
    times = iter(range(1000))
    with pytest.raises(HostFault, match="refused"):
        readiness.wait_for_health(
            ask=refuse, starting=lambda: True, sleep=lambda seconds: None, clock=lambda: next(times)
        )
