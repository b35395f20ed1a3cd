"""A line for each finished test where a person sees it at once.

Nox runs sessions side by side and prints what a session said when it has ended: many minutes of silence here. So the
noxfile names its own terminal (or pipe), and each test's outcome goes there as well.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

VARIABLE = "NOX_PROGRESS"


def outcome(report: pytest.TestReport) -> str | None:
    """Return the line for a test's report, or None for one that says nothing new (a fixture that went well)."""
    if report.when != "call" and not report.failed:
        return None
    mark = "✓" if report.passed else "·" if report.skipped else "✗"
    name = "/".join(report.nodeid.split("/")[-2:]).replace("/test_", " ").replace(".py::", ": ").replace("_", " ")
    return f"{mark} {name} ({report.duration:.0f} s{'' if report.when == 'call' else f', {report.when}'})\n"


def write(line: str) -> None:
    """Write `line` where the noxfile's own words go, if that can be shared: a terminal or a pipe, not a file."""
    path = Path(os.environ.get(VARIABLE, ""))
    try:
        mode = path.stat().st_mode
        if stat.S_ISCHR(mode) or stat.S_ISFIFO(mode):
            with path.open("a", encoding="utf-8") as shared:
                shared.write(line)
    except OSError:
        return  # it has gone, or is somebody else's: progress is no reason to fail
