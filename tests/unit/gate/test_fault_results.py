"""What the marked tests were seen to do is in build/faults/result.json, whoever runs them and however that ends."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.faults import results

TESTS = """
import os, signal, time
import pytest

@pytest.mark.fault(7, injected="a", must="b")
@pytest.mark.fault(3, injected="a", must="b")
@pytest.mark.parametrize("n", [1, 2])
def test_good(n): time.sleep(0.05)

@pytest.mark.fault(9, injected="a", must="b")
def test_bad(): assert os.environ.get("MENDED")

@pytest.fixture
def broken(): raise OSError

@pytest.mark.fault(9, injected="a", must="b")
def test_without_its_fixture(broken): ...

@pytest.mark.fault(9, injected="a", must="b")
def test_left_out(): pytest.skip("no such host")

def test_of_no_fault(): ...

@pytest.mark.fault(9, injected="a", must="b")
def test_that_is_interrupted():
    if os.environ.get("INTERRUPT"): os.kill(os.getpid(), signal.SIGINT)
"""


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with tests, some of which carry a marker."""
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    for folder in ("faults", "unit"):
        (tmp_path / "tests" / folder).mkdir(parents=True)
        (tmp_path / "tests" / folder / f"test_{folder}.py").write_text(TESTS)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault\n")
    return tmp_path


def run(clone: Path, *options: str, **env: str) -> int:
    """Run the clone's tests with the plugin, and return how that ended."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", results.__name__, "-p", "no:cacheprovider", *options]
    path = f"{ROOT}:{ROOT / 'infrastructure/packer/files'}"
    done = subprocess.run(command, cwd=clone, env={**os.environ, "PYTHONPATH": path, **env}, check=False)
    return done.returncode


def seen(clone: Path) -> Mapping[str, Any]:
    """Return what stands in the file, by the names of the tests."""
    content = json.loads((clone / results.RESULT).read_text())
    assert content["schema"] == 1
    assert [row["node"] for row in content["tests"]] == sorted(row["node"] for row in content["tests"])
    return {row["node"].removeprefix("tests/faults/test_faults.py::"): row for row in content["tests"]}


@pytest.mark.parametrize("options", [(), ("-n", "2")], ids=["alone", "by xdist"])
def test_each_marked_test_outside_of_unit_is_there_with_its_numbers_and_how_it_ended(
    clone: Path, options: tuple[str, ...]
) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    assert run(clone, *options) == 1
    rows = seen(clone)
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "test_good[1]": "passed",
        "test_good[2]": "passed",
        "test_bad": "failed",
        "test_without_its_fixture": "failed",
        "test_left_out": "skipped",
        "test_that_is_interrupted": "passed",
    }
    row = rows["test_good[1]"]
    assert set(row) == {"node", "faults", "outcome", "seconds", "at", "commit"}
    assert (row["faults"], row["commit"]) == ([3, 7], "")
    assert 0.05 <= row["seconds"] < 5
    assert before <= datetime.fromisoformat(row["at"]) <= datetime.now(UTC)


def test_a_later_session_replaces_what_it_ran_and_keeps_the_rest(clone: Path) -> None:
    run(clone)
    assert run(clone, "-k", "test_bad", MENDED="1") == 0
    rows = seen(clone)
    assert (rows["test_bad"]["outcome"], rows["test_without_its_fixture"]["outcome"]) == ("passed", "failed")
    # A test that is gone has shown nothing of what is there now.
    file = clone / "tests/faults/test_faults.py"
    file.write_text(file.read_text().replace("def test_left_out", "def test_otherwise"))
    run(clone, "-k", "test_bad")
    assert "test_left_out" not in seen(clone)
    assert "test_good[2]" in seen(clone)


def test_a_session_that_is_interrupted_leaves_what_it_has_seen(clone: Path) -> None:
    assert run(clone, INTERRUPT="1") == 2
    assert {"test_good[1]", "test_bad"} < set(seen(clone))
    assert "test_that_is_interrupted" not in seen(clone)


def test_a_file_that_is_none_is_begun_anew(clone: Path) -> None:
    file = clone / results.RESULT
    file.parent.mkdir(parents=True)
    file.write_text('{"schema": 0}')
    run(clone, "-k", "test_good")
    assert set(seen(clone)) == {"test_good[1]", "test_good[2]"}
