"""What a long session says while one of its tests runs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.sessions.progress import Watch


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_test_that_takes_minutes_is_named_once_in_each_of_them() -> None:
    clock = Clock()
    said: list[str] = []
    watch = Watch(said.append, lambda: 188, clock)
    watch.pytest_runtest_logstart("tests/a.py::test_a")
    watch.pytest_runtest_logfinish("tests/a.py::test_a")
    watch.pytest_runtest_logstart("tests/a.py::test_b")
    for second in range(150):
        clock.now = float(second)
        watch.look()
    assert said == [
        "1 of 188 tests done after 1:00 min; running: tests/a.py::test_b (1:00 min)",
        "1 of 188 tests done after 2:00 min; running: tests/a.py::test_b (2:00 min)",
    ]


def test_tests_that_end_soon_need_no_such_line() -> None:
    clock = Clock()
    said: list[str] = []
    watch = Watch(said.append, clock=clock)
    for second in range(0, 600, 50):
        clock.now = float(second)
        watch.pytest_runtest_logstart("tests/a.py::test_a")
        watch.look()
        watch.pytest_runtest_logfinish("tests/a.py::test_a")
    assert said == []


@pytest.mark.parametrize("processes", ["0", "1"], ids=["in one process", "by xdist"])
def test_the_line_is_not_captured_with_what_the_test_prints(tmp_path: Path, processes: str) -> None:
    (tmp_path / "test_slow.py").write_text("import time\ndef test_slow():\n    print('hidden')\n    time.sleep(1.5)\n")
    soon = "from tests.support.sessions import progress\nprogress._MINUTE = 0.1\n"
    (tmp_path / "soon.py").write_text(f"{soon}from tests.support.sessions.progress import *\n")
    command = [sys.executable, "-m", "pytest", "-v", "-n", processes, "-p", "soon", "-p", "no:cacheprovider", "."]
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    shown = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True).stdout
    assert re.search(
        r"^0 of 1 tests done after \d:\d\d min; running: test_slow.py::test_slow \(0:0\d min\)$", shown, re.M
    )
    assert "hidden" not in shown
    assert "PASSED (1.5 s)" in shown
