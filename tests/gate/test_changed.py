"""`verify -- --changed` leaves out no test that a change may turn: whatever a test reads selects it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from tests.support import ROOT
from zmanim_ami.gate.code import selection
from zmanim_ami.gate.finding import files

PYTEST = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.gate.reads")
TESTS = sorted(
    str(path.relative_to(ROOT / selection.TESTS).with_suffix(""))
    for path in (ROOT / selection.TESTS).rglob("test_*.py")
)


@cache
def tracked() -> frozenset[str]:
    return frozenset(str(path) for path in files(ROOT))


@cache
def selected_by(name: str) -> frozenset[str]:
    return frozenset(test.removeprefix("tests/unit/").removesuffix(".py") for test in selection.tests_of(ROOT, [name]))


@pytest.mark.parametrize("test", TESTS)
def test_a_change_of_any_file_that_a_test_reads_selects_it(test: str, tmp_path: Path) -> None:
    report = tmp_path / "reads.json"
    # In a process of its own: what another test has imported or kept would not be read again. And in a directory of its
    # own: those that share one remove each other's leavings.
    with tempfile.TemporaryDirectory(prefix="reads-") as directory:
        done = subprocess.run(
            [*PYTEST, f"--basetemp={directory}/tests", str(selection.TESTS / f"{test}.py")],
            cwd=ROOT,
            env={**os.environ, "READS_REPORT": str(report), "HYPOTHESIS_PROFILE": "once"},
            capture_output=True,
            text=True,
            check=False,
        )
    assert done.returncode == 0, done.stdout[-2000:]
    told = json.loads(report.read_text())
    read = tracked() & set(told["read"])
    # Where several of a kind in a listed folder are read, a new one would be too.
    kinds = Counter((str(Path(path).parent), Path(path).suffix) for path in read)
    new = {
        f"{folder}/new{suffix}"
        for (folder, suffix), count in kinds.items()
        if count > 1 and folder in told["listed"] and suffix != ".py"
    }
    assert f"{selection.TESTS / test}.py" in read
    left_out = {name for name in read | new if test not in selected_by(name)}
    assert left_out == set()


def test_a_script_selects_few_tests() -> None:
    assert len(selected_by("infrastructure/packer/scripts/configure-redis.sh")) <= 6


def test_what_all_tests_stand_on_selects_all() -> None:
    for name in ("pyproject.toml", "tests/conftest.py", "requirements.txt"):
        assert selected_by(name) == set(TESTS)
