"""Each outcome of a long session is told at once, and never where it would spoil something."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.machines.progress import VARIABLE, outcome, write


def _report(when: str, outcome: str) -> pytest.TestReport:
    return pytest.TestReport(
        nodeid="tests/machines/image/test_boot.py::test_it_boots",
        location=("", 0, ""),
        keywords={},
        outcome=outcome,  # type: ignore[arg-type]  # one of three words
        longrepr=None,
        when=when,  # type: ignore[arg-type]
        duration=3.4,
    )


def test_a_test_has_one_line_and_a_fixture_only_when_it_fails() -> None:
    assert outcome(_report("call", "passed")) == "✓ image boot: test it boots (3 s)\n"
    assert outcome(_report("call", "failed")) == "✗ image boot: test it boots (3 s)\n"
    assert outcome(_report("setup", "passed")) is None
    assert outcome(_report("setup", "failed")) == "✗ image boot: test it boots (3 s, setup)\n"


def test_a_pipe_gets_the_line(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    monkeypatch.setenv(VARIABLE, f"/proc/{os.getpid()}/fd/{writer}")
    write("✓\n")
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as said:
        assert said.read() == "✓\n"


def test_a_file_is_left_alone_and_a_place_that_is_gone_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever writes to it has a position of their own, and would overwrite us, or we them.
    log = tmp_path / "log"
    log.write_text("")
    for path in (log, tmp_path / "gone"):
        monkeypatch.setenv(VARIABLE, str(path))
        write("✓\n")
    assert log.read_text() == ""
