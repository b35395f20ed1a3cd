"""Results for machines and for people say the same."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support.output import show


@dataclass(frozen=True)
class Row:
    name: str
    ok: bool
    where: Path
    do: object = field(default=None, repr=False)


@dataclass(frozen=True)
class Plan:
    steps: tuple[Row, ...]


ROW = Row("x" * 300, True, Path("/tmp/y"))


def test_json_holds_what_the_dataclass_shows(capsys: pytest.CaptureFixture[str]) -> None:
    show([ROW], True)
    assert json.loads(capsys.readouterr().out) == [{"name": "x" * 300, "ok": True, "where": "/tmp/y"}]


def test_a_piped_table_keeps_long_values_whole(capsys: pytest.CaptureFixture[str]) -> None:
    show([ROW], False)
    assert "x" * 300 in capsys.readouterr().out


def test_markup_in_a_value_is_text(capsys: pytest.CaptureFixture[str]) -> None:
    show(Row("[red]a[/red]", False, Path("b")), False)
    assert "[red]a[/red]" in capsys.readouterr().out


def test_a_plan_is_shown_as_its_steps_and_an_empty_one_as_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    show(Plan((ROW,)), False)
    assert "name" in capsys.readouterr().out.splitlines()[0]
    show(Plan(()), False)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nothing to do" in captured.err
