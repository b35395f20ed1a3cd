"""Time limits that end a hang leave a first boot the time that a disk takes which nothing has read yet."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.unit.infrastructure.packer.test_files import sections
from zmanim_host.host import ANSWER_SECONDS

FILES = ROOT / "infrastructure/packer/files"
UNITS = {"s": 1, "min": 60, "h": 3600}
# Of the units that start programs at a boot; the slowest of the programs took 5 s of a throttled first boot.
LEAST, MOST = 60, 120


def limits() -> Iterator[tuple[str, float]]:
    """Yield each unit with its TimeoutStartSec= in seconds."""
    for path in sorted(FILES.glob("*.service")):
        for text in sections(path).get("Service", {}).get("TimeoutStartSec", []):
            number = text.rstrip("".join(UNITS))
            yield path.name, float("inf") if text == "infinity" else float(number) * UNITS[text[len(number) :] or "s"]


def timeouts(path: Path) -> Iterator[tuple[int, float]]:
    """Yield the lines of a module that run a program with a number of seconds written there, and the number."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in {
            "run",
            "psql",
            "query",
            "restic",
        }:
            for word in node.keywords:
                if word.arg == "timeout" and isinstance(word.value, ast.Constant):
                    assert isinstance(word.value.value, int | float)
                    yield node.lineno, word.value.value


@pytest.mark.incident("the limits of a boot's units were for warm disks")
def test_no_unit_has_less_time_to_start_than_a_cold_disk_takes() -> None:
    found = dict(limits())
    assert len(found) > 20
    assert {name: seconds for name, seconds in found.items() if seconds < LEAST} == {}
    # A hang is ended all the same: neither costs a boot more than two minutes.
    assert all(found[f"zmanim-release{part}.service"] <= MOST for part in ("", "-fetch"))


@pytest.mark.incident("the limits of a boot's units were for warm disks")
def test_no_program_has_less_time_to_answer_than_a_cold_disk_takes() -> None:
    found = {
        f"{path.relative_to(FILES)}:{line}": seconds
        for path in (FILES / "zmanim_host").rglob("*.py")
        for line, seconds in timeouts(path)
    }
    assert len(found) > 20
    assert {place: seconds for place, seconds in found.items() if seconds < ANSWER_SECONDS} == {}
