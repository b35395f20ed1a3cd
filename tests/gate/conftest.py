"""The score: how many of the seeded defects were caught."""

from __future__ import annotations

import pytest

from tests.gate.table import ROWS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print `caught N / M`; rows that were left out by -k count as not caught."""
    caught = [
        each
        for each in terminalreporter.stats.get("passed", [])
        if each.when == "call" and "::test_the_seeded_defect_" in each.nodeid
    ]
    terminalreporter.write_line(f"caught {len(caught)} / {len(ROWS)}")
