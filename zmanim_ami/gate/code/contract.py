"""The local cloud's contract: what AWS documents of each call, asked of the whole cloud in one process.

No machine boots, so this takes neither root nor more than a minute of a processor.
"""

from __future__ import annotations

from pathlib import Path

from zmanim_ami.gate.code.unit import run_tests
from zmanim_ami.gate.finding import Finding

TESTS = "tests/contract"


def check(tree: Path) -> list[Finding]:
    """Return each row that is answered otherwise, and what the rows or their page lack."""
    return run_tests(tree, (TESTS,))
