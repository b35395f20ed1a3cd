"""A machine that never came up powers itself off when its launch says so, and no other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.programs import arguments, on_path
from zmanim_host import power_off
from zmanim_host.host import HostError
from zmanim_host.power_off import is_to_power_off


@pytest.mark.parametrize("tag", [None, "", "reboot", "Poweroff"])
def test_any_other_tag_leaves_a_machine_on(tag: str | None) -> None:
    assert not is_to_power_off(lambda: tag)


def test_the_launch_alone_lets_a_machine_power_itself_off() -> None:
    def unreadable() -> str | None:
        raise HostError("no tags in the metadata")

    assert is_to_power_off(lambda: "poweroff")
    assert not is_to_power_off(unreadable)


@pytest.mark.parametrize(
    ("was_ready", "may", "ran"),
    [
        (False, True, [["--no-block", "poweroff"]]),
        (False, False, []),
        (True, True, []),
        # zmanim-ready ended before it could write its report.
        (None, True, [["--no-block", "poweroff"]]),
    ],
)
def test_one_that_never_came_up_powers_off_when_its_launch_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, was_ready: bool | None, may: bool, ran: list[list[str]]
) -> None:
    programs = on_path(tmp_path / "programs", monkeypatch, {"systemctl": ""})
    report, console = tmp_path / "ready.json", list[str]()
    if was_ready is not None:
        report.write_text(json.dumps({"ok": False, "was_ready": was_ready}))
    power_off.decide(report, may_power_off=lambda: may, console=console.append)
    assert arguments(programs, "systemctl") == ran
    assert [("powering off" in line) for line in console] == [True] * len(ran)
