"""Whether this machine serves now: what is asked, and what the journal hears of a change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zmanim_host import readiness
from zmanim_host.host import HostError
from zmanim_host.monitoring import serving
from zmanim_host.storage import swap


def refuse() -> str:
    raise HostError("could not connect")


def test_each_check_is_made_and_a_failed_one_is_named() -> None:
    assert serving.look({"api": lambda: "", "postgresql": refuse, "redis": lambda: "7.2"}) == {
        "postgresql": "could not connect"
    }


def test_what_is_asked_is_what_a_client_needs() -> None:
    assert serving.CHECKS.keys() == {"api", "postgresql", "redis"}


def test_the_journal_hears_of_a_change_and_not_every_minute(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, now = tmp_path / "serving.json", 1000.0

    def write(failed: dict[str, str]) -> list[str]:
        serving.write(failed, file, lambda: now)
        return capsys.readouterr().err.splitlines()

    assert write({}) == []
    (line,) = write({"postgresql": "could not connect"})
    assert "sends no metric Ready: postgresql: could not connect" in line
    assert write({"postgresql": "could not connect"}) == []
    assert serving.read(file, lambda: now) is False
    assert write({}) == ["this machine serves again"]
    assert serving.read(file, lambda: now) is True
    assert write({}) == []


def test_a_look_of_minutes_ago_says_nothing_of_now(tmp_path: Path) -> None:
    file = tmp_path / "serving.json"
    serving.write({}, file, lambda: 1000.0)
    assert serving.read(file, lambda: 1000.0 + serving.STALE) is True
    assert serving.read(file, lambda: 1001.0 + serving.STALE) is None
    # Of another boot, whose clock had gone further.
    assert serving.read(file, lambda: 10.0) is None


@pytest.mark.parametrize("content", [None, "", "{", "[]", '{"serves": true}', '{"serves": true, "at": "x"}'])
def test_what_is_no_status_is_none(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "serving.json"
    if content is not None:
        file.write_text(content)
    assert serving.read(file) is None


def test_the_api_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """zmanim-ready waits 45 s for it; here the next look is a minute away."""
    asked: list[str] = []
    monkeypatch.setattr(readiness, "ask_health", lambda: asked.append("health"))
    monkeypatch.setattr(swap, "check_none", lambda data: asked.append(str(data)))
    assert serving.check_api() == ""
    assert asked == ["/data", "health"]


def test_the_command_writes_down_what_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving.look, "__defaults__", ({"redis": refuse},))
    monkeypatch.setattr(serving.write, "__defaults__", (tmp_path / "file", lambda: 5.0))
    serving.command()
    written = json.loads((tmp_path / "file").read_text())
    assert written == {"serves": False, "at": 5.0, "failed": {"redis": "could not connect"}}
