"""The check of the units finds what systemd itself would only log."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from gate import units

ROOT = Path(__file__).parents[2]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / units.FILES).mkdir(parents=True)
    for unit in units.units(ROOT):
        shutil.copy(unit, tmp_path / units.FILES)
    return tmp_path


def _change(tree: Path, unit: str, old: str, new: str) -> None:
    path = tree / units.FILES / unit
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))


def test_the_units_that_ship_are_well(tree: Path) -> None:
    assert len(units.units(tree)) >= 4
    assert units.check(tree) == []
    assert units.check_directives(tree) == []
    assert units.check_sandboxes(tree) == []


@pytest.mark.parametrize(
    ("unit", "old", "new", "words"),
    [
        ("zmanim-api.service", "RestartSec=2", "RestartSecs=2", "RestartSecs"),
        ("redis.service", "Type=notify", "Type=notifyy", "notifyy"),
        ("restic-backup.timer", "OnCalendar=", "OnCalendar=25:99 ", "25:99"),
        ("zmanim-api.service", "ExecStart=/opt/zmanim/zmanim-api", "ExecStart=zmanim/zmanim-api", "zmanim/zmanim-api"),
    ],
)
def test_a_defect_is_told_in_systemd_s_words(tree: Path, unit: str, old: str, new: str, words: str) -> None:
    _change(tree, unit, old, new)
    assert any(words in line for line in units.check(tree))


@pytest.mark.parametrize("unit", ["zmanim-api.service", "postgresql.service", "zmanim-ready.service"])
def test_a_sandbox_that_lost_its_walls_is_told(tree: Path, unit: str) -> None:
    for line in ("ProtectSystem=strict", "SystemCallFilter=@system-service", "RestrictNamespaces=yes"):
        _change(tree, unit, f"{line}\n", "")
    found = units.check_sandboxes(tree)
    assert len(found) == 1
    assert found[0].startswith(f"{unit}: its exposure is ")


def test_a_service_without_any_sandbox_is_told(tree: Path) -> None:
    (tree / units.FILES / "new.service").write_text("[Service]\nExecStart=/bin/true\n")
    assert units.check_sandboxes(tree) == ["new.service: its exposure is 9.6, and at most 2.5 is allowed"]


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [("RestartSec=2", "RestartSec=2\nRestartSteps=5", "RestartSteps"), ("Type=exec", "Type=notify-reload", "Type=")],
)
def test_a_directive_that_only_a_newer_systemd_knows_is_told(tree: Path, old: str, new: str, name: str) -> None:
    _change(tree, "zmanim-api.service", old, new)
    assert [line for line in units.check_directives(tree) if name in line]
