"""The test of the tests: every check of the gate fails when it should, and says what it has found."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.gate.seeds import Row
from tests.gate.table import LESSONS, ROWS
from tests.support import ROOT
from tests.support.pins import Known, pins, run
from zmanim_ami.gate.checks import CHECKS
from zmanim_ami.gate.code import types, unit
from zmanim_ami.gate.finding import Finding, Level, files
from zmanim_ami.pipeline.docs import page
from zmanim_ami.pipeline.docs.tree import PAGE
from zmanim_ami.pipeline.pins.versions import VERSIONS

# What `nox -s verify` has run on the tree itself: it takes as long as all the rest of this.
LEFT_TO_VERIFY = {"unit", "contract"}
# What may answer differently to newer pins of the image.
BUMPED = {name for name, check in CHECKS.items() if any(check.reads(str(each)) for each in (VERSIONS, PAGE))}


@pytest.fixture(scope="session")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the tree as it lies there, committed or not, times and all: mypy's cache goes by them."""
    copy = tmp_path_factory.mktemp("pristine") / "tree"
    for path in files(ROOT):
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path, follow_symlinks=False)
    subprocess.run(["git", "init", "--quiet", "--initial-branch=main", copy], check=True)
    return copy


@pytest.fixture
def tree(pristine: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(pristine, tmp_path / "tree", symlinks=True)
    return tmp_path / "tree"


def _errors(check: str, tree: Path, only: tuple[str, ...] = ()) -> Iterator[str]:
    if check == "types":
        cache = tree.parent / "mypy"
        if (ROOT / ".mypy_cache").is_dir():
            shutil.copytree(ROOT / ".mypy_cache", cache)
        findings: Iterable[Finding] = types.check(tree, cache)
    elif only:
        assert all((tree / name.partition("::")[0]).is_file() for name in only), "the row names tests that are gone"
        findings = unit.run_tests(tree, only)
    else:
        findings = CHECKS[check].run(tree)
    return (str(finding) for finding in findings if finding.level is Level.ERROR)


def _commit(tree: Path) -> None:
    own_name = ("-c", "user.name=gate", "-c", "user.email=gate@localhost")
    for command in (["add", "-A"], [*own_name, "commit", "-q", "-m", "before"]):
        subprocess.run(["git", *command], cwd=tree, check=True)


def _errors_of_the_program(tree: Path, *arguments: str) -> list[str]:
    command = [sys.executable, "-m", "zmanim_ami.gate", *arguments]
    done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
    assert done.returncode in {0, 1}, done.stderr
    return done.stdout.splitlines() if done.returncode else []


def _rows(*, of_units: bool) -> pytest.MarkDecorator:
    rows = [row for row in ROWS if (row.check == "units") is of_units]
    return pytest.mark.parametrize("row", rows, ids=[row.name.replace(" ", "-") for row in rows])


@_rows(of_units=False)
def test_the_seeded_defect_is_caught(row: Row, tree: Path) -> None:
    _expect_caught(row, tree)


@pytest.mark.fault(
    49,
    injected="units that systemd would complain of, or that are open further than is allowed",
    must="the gate's check `units` names each",
)
@_rows(of_units=True)
def test_the_seeded_defect_of_a_unit_is_caught(row: Row, tree: Path) -> None:
    _expect_caught(row, tree)


def _expect_caught(row: Row, tree: Path) -> None:
    if row.changed:
        _commit(tree)
    row.seed(tree)
    if row.changed or (row.check == "unit" and not row.only):
        failing = iter(_errors_of_the_program(tree, row.check, *(["--changed"] if row.changed else [])))
    else:
        failing = _errors(row.check, tree, row.only)
    said: list[str] = []
    # No further than to what is looked for: what takes long comes last, a second for each row at least.
    for text in failing:
        said.append(text)
        if row.words in text:
            return
    raise AssertionError(f"{row.check} did not say {row.words!r}, but: {said}")


@pytest.mark.parametrize("check", sorted(set(CHECKS) - LEFT_TO_VERIFY))
def test_the_tree_as_it_is_passes(check: str, tree: Path) -> None:
    # Without this a row could be "caught" by what was wrong before.
    assert list(_errors(check, tree)) == []


@pytest.mark.parametrize("check", sorted(BUMPED - LEFT_TO_VERIFY))
def test_a_tree_passes_whose_pins_were_bumped(check: str, tree: Path) -> None:
    newer = f"al2023-ami-2023.99.20300101.0-kernel-{pins(tree)['base']['kernel']}-arm64"
    moved = run(Known(tree, imaged=[newer], tagged={"redis": ["7.2.99"], "restic": ["v0.99.0"]}), write=page.write)
    assert len(moved) == 3
    assert list(_errors(check, tree)) == []


def test_every_check_has_two_rows() -> None:
    counts = Counter(row.check for row in ROWS)
    assert {name for name in CHECKS if counts[name] < 2} == set()
    assert set(counts) <= set(CHECKS)


def test_every_point_of_the_definition_of_done_has_three_rows() -> None:
    counts = Counter(row.dod for row in ROWS)
    assert {number for number in range(1, 9) if counts[number] < 3} == set()
    proven = {number for check in CHECKS.values() for number in check.proves}
    assert proven == set(range(1, 9))


def test_every_lesson_has_a_row() -> None:
    assert LESSONS.keys() - {row.lesson for row in ROWS} == set()
    assert {row.lesson for row in ROWS} - {""} <= LESSONS.keys()


def test_there_are_enough_rows_and_each_has_a_name_of_its_own() -> None:
    assert len(ROWS) >= 80
    assert [name for name, count in Counter(row.name for row in ROWS).items() if count > 1] == []
