"""What the console says is true, whole, and on one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.programs import arguments, on_path
from zmanim_host import readiness
from zmanim_host.host import Clock, ErrorNotes, HostError
from zmanim_host.readiness import (
    Check,
    attempt,
    check_base_units,
    check_timers,
    check_units,
    console_lines,
    was_ready,
)
from zmanim_host.release.running import mapped
from zmanim_host.storage.redis_checks import redis_verdict, wait_until_written

GOOD_REDIS = (
    "OK\nready-1\n# Persistence\nloading:0\naof_enabled:1\nrdb_last_bgsave_status:ok\naof_last_write_status:ok\n"
    "# Server\nredis_version:7.2.16\n"
)


API = readiness.RunningApi({"status": "ok"}, "a" * 64)


def passes() -> str:
    return "well"


def fails() -> str:
    raise HostError("no such thing")


def ok(**checks: Callable[[], str]) -> bool:
    wanted = {name: check for name, check in checks.items() if name == "wanted"}
    required = {name: check for name, check in checks.items() if name != "wanted"}
    result: bool = readiness.examine(lambda: API, required, wanted)["ok"]
    return result


def test_one_failed_required_check_is_enough() -> None:
    assert ok(one=passes, two=passes)
    assert not ok(one=passes, two=fails)


def test_a_wanted_check_may_fail() -> None:
    assert ok(one=passes, wanted=fails)


@given(st.text(max_size=200))
def test_whatever_a_detail_holds_the_console_gets_short_lines_of_ascii_that_say_what_they_are(detail: str) -> None:
    before, *lines, after = console_lines({"checks": {"x": {"ok": False, "detail": detail}}}).split("\n")
    assert (before, after) == ("", "")
    assert all(line.startswith("zmanim-ready ") and line.isascii() and len(line) < 250 for line in lines)


def test_an_error_becomes_a_failed_check_with_its_text() -> None:
    assert attempt(fails, required=False) == Check(False, False, "no such thing")
    assert attempt(lambda: "17.11") == Check(True, True, "17.11")


def test_redis_is_well_when_it_gives_back_and_persists() -> None:
    assert redis_verdict(GOOD_REDIS, "ready-1") == "7.2.16"


@pytest.mark.incident("AOF was switched off over permission issues")
@pytest.mark.parametrize(
    ("well", "ill"),
    [
        ("aof_enabled:1", "aof_enabled:0"),
        ("aof_last_write_status:ok", "aof_last_write_status:err"),
        ("rdb_last_bgsave_status:ok", "rdb_last_bgsave_status:err"),
        ("ready-1\n", "NOAUTH Authentication required.\n"),
    ],
)
def test_redis_that_forgets_is_not_well(well: str, ill: str) -> None:
    with pytest.raises(HostError):
        redis_verdict(GOOD_REDIS.replace(well, ill), "ready-1")


@pytest.mark.incident("AOF was switched off over permission issues")
def test_what_redis_was_given_has_to_be_in_its_file(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").mkdir()
    file = tmp_path / "appendonlydir/appendonly.aof.3.incr.aof"
    file.write_bytes(b"x" * (2 << 20) + b"$5\r\nready-1\r\n")
    wait_until_written(tmp_path, b"ready-1")
    pauses: list[float] = []

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        file.write_bytes(b"ready-2" if len(pauses) > 1 else b"late")

    wait_until_written(tmp_path, b"ready-2", Clock(sleep=sleep))
    assert len(pauses) == 2
    times = iter(range(1000))
    with pytest.raises(HostError, match="in no append-only file"):
        wait_until_written(tmp_path, b"ready-3", Clock(lambda: next(times), lambda _: None))


def test_every_timer_of_the_preset_has_to_be_armed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    here = on_path(
        tmp_path, monkeypatch, {"systemctl": 'eval "unit=\\${$#}"; echo "ActiveState=$(cat "${HERE}/${unit}")"'}
    )
    preset = tmp_path / "preset"
    preset.write_text("# enable commented.timer\nenable one.timer\nenable redis.service\nenable two.timer\n")
    for timer in ("one.timer", "two.timer"):
        (here / timer).write_text("active")
    assert check_timers(preset) == "one.timer, two.timer"
    (here / "two.timer").write_text("inactive")
    with pytest.raises(HostError, match=r"^two\.timer is inactive$"):
        check_timers(preset)
    preset.write_text("enable redis.service\n")
    with pytest.raises(HostError, match="enables no timer"):
        check_timers(preset)


def test_a_machine_that_was_ready_since_its_boot_is_known(tmp_path: Path) -> None:
    path = tmp_path / "ready.json"
    assert not was_ready(path)
    for ready in (False, True):
        path.write_text(json.dumps({"ok": False, "was_ready": ready}))
        assert was_ready(path) is ready


PRESET = ROOT / "infrastructure/packer/files/zmanim.preset"
# systemctl: which units have failed, and from which file each one is.
FAILED = """case $1 in
list-units) echo "$FAILED" ;;
show) [ $3 = backup-notify@x.service ] && at=/etc || at=/usr/lib; echo "FragmentPath=$at/systemd/system/$3" ;;
esac"""


@pytest.mark.incident("a failed update-motd.service kept a good image from being published")
@pytest.mark.parametrize(
    ("unit", "ours"),
    [
        ("update-motd.service", False),
        ("policy-routes@ens5.service", False),
        ("backup-notify@x.service", True),
        ("zmanim-restore-1.service", True),
        ("sshd.service", True),
        ("ssh", False),
    ],
)
def test_only_a_unit_of_ours_decides_and_one_of_the_base_is_told(
    unit: str, ours: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAILED", f"{unit} loaded failed failed Something")
    on_path(tmp_path, monkeypatch, {"systemctl": FAILED, "journalctl": "echo it is on fire"})
    notes = ErrorNotes(tmp_path / "notes")
    checks: dict[bool, Callable[[], str]] = {
        True: lambda: check_units(notes, PRESET),
        False: lambda: check_base_units(PRESET),
    }
    with pytest.raises(HostError, match=rf"failed: {unit}; {unit}: it is on fire$"):
        checks[ours]()
    assert checks[not ours]() == ""


def test_failed_units_come_with_the_reason_that_was_noted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listed = 'echo "zmanim-data-volume.service loaded failed failed Find zmanim\'s data volume"'
    here = on_path(tmp_path, monkeypatch, {"systemctl": listed, "journalctl": "echo it is on fire"})
    (here / "notes").mkdir()
    notes = ErrorNotes(here / "notes")
    notes.put("data-volume", "no data volume within 90 s")
    # What we noted ourselves the last time is no reason.
    notes.put("ready", "not ready: units")
    with pytest.raises(
        HostError, match=r"failed: zmanim-data-volume\.service; data-volume: no data volume within 90 s$"
    ):
        check_units(notes, PRESET)
    assert arguments(here, "journalctl") == [], "what is known is not looked for"
    notes.clear("data-volume")
    with pytest.raises(
        HostError, match=r"failed: zmanim-data-volume\.service; zmanim-data-volume\.service: it is on fire$"
    ):
        check_units(notes, PRESET)


def test_an_error_is_noted_until_the_command_succeeds(tmp_path: Path) -> None:
    notes = ErrorNotes(tmp_path / "errors")
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
    assert mapped(maps) == ("v1.2.3", "400000-d00000")
    with pytest.raises(HostError, match="runs nothing below"):
        mapped(maps.replace("/opt/zmanim/releases", "/tmp"))


def test_an_api_that_is_still_starting_is_waited_for() -> None:
    states = iter([HostError("refused"), HostError("refused"), {"data": {"status": "ok"}}])

    def ask() -> object:
        state = next(states)
        if isinstance(state, Exception):
            raise state
        return state

    result = readiness.wait_for_health(ask=ask, starting=lambda: True, clock=Clock(sleep=lambda _: None))
    assert result == {"data": {"status": "ok"}}


def refuse() -> object:
    raise HostError("refused")


def test_an_api_that_will_not_start_is_not_waited_for() -> None:
    with pytest.raises(HostError, match="is not running"):
        readiness.wait_for_health(
            ask=refuse, starting=lambda: False, clock=Clock(sleep=lambda _: pytest.fail("waited for nothing"))
        )


def test_an_api_that_never_answers_ends_the_wait() -> None:
    times = iter(range(1000))
    with pytest.raises(HostError, match="refused"):
        readiness.wait_for_health(ask=refuse, starting=lambda: True, clock=Clock(lambda: next(times), lambda _: None))
