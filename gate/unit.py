"""Unit tests: no root, no network; and how much of pipeline/ and of the shipped Python they reach, branches counted.

What is counted is traced, which makes it slow: only the tests of those two parts run under coverage, the others beside
them without.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from gate.finding import Finding, ask
from gate.selection import tests_of
from support.parallel import side_by_side
from support.process import Completed

TESTS = Path("tests/unit")
# The least percentage of statements and branches, as coverage.py counts them together, by part.
LEAST: Mapping[str, float] = {
    "pipeline": 90.0,
    "infrastructure/packer/files/zmanim_host": 90.0,
}
_TRACED = re.compile(r"test_(pipeline|image|contents|fuzz)")
_FAILED = re.compile(r"(?:FAILED|ERROR) (\S+?\.py)(?:::(\S+))?(?: - (.*))?$")


def check(tree: Path, only: Sequence[str] = ()) -> list[Finding]:
    """Return each test that fails, and each part that the tests reach too little of.

    `only` names test files: then those run, and nothing is counted.
    """
    if only:
        return list(_failures(_pytest(tree, only), tree))
    tests = sorted(str(path.relative_to(tree)) for path in (tree / TESTS).glob("test_*.py"))
    counted = [name for name in tests if _TRACED.match(Path(name).name)]
    others = [name for name in tests if name not in counted]
    with tempfile.TemporaryDirectory(prefix="coverage-") as directory:
        report = Path(directory, "coverage.json")
        traced = [f"--cov={part}" for part in LEAST]
        options = [*traced, "--cov-branch", f"--cov-report=json:{report}", "-n", "2"]
        env = {"COVERAGE_FILE": str(Path(directory, "data"))}
        done = side_by_side([
            lambda: _pytest(tree, counted, options, env),
            lambda: _pytest(tree, others, ["-n", "2"] if others else []),
        ])  # fmt: skip
        found = [finding for said in done for finding in _failures(said, tree)]
        if not found:
            found += coverage(json.loads(report.read_text()))
    return found


def check_changed(tree: Path, changed: Sequence[str]) -> list[Finding]:
    """Return each test that fails of those that a change of these files may turn; nothing is counted."""
    only = tests_of(tree, changed)
    print(f"unit: {len(only)} files of tests can see the change")
    return check(tree, only) if only else []


def _pytest(
    tree: Path, names: Sequence[str], options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Completed:
    # Wide, so that the last lines hold each assertion whole.
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider", *options, *names]
    return ask(command, tree, {**os.environ, **(env or {}), "COLUMNS": "400"})


def _failures(said: Completed, tree: Path) -> Iterator[Finding]:
    if said.returncode == 0:
        return
    lines = said.stdout.splitlines()
    failed = [match for match in (_FAILED.match(line) for line in lines) if match]
    for match in failed:
        path = tree / match[1]
        name = re.sub(r"\[.*", "", match[2] or "")
        text = path.read_text() if path.is_file() else ""
        line = next((n for n, each in enumerate(text.splitlines(), 1) if f"def {name}(" in each), 0)
        yield Finding(match[1], line, f"{match[2] or 'the file'}: {match[3] or 'failed'}")
    if not failed:
        yield Finding(
            "", 0, f"pytest ended with exit code {said.returncode}\n" + "\n".join([*lines, said.stderr][-30:])
        )


def coverage(report: Mapping[str, Mapping[str, Mapping[str, Mapping[str, int]]]]) -> Iterator[Finding]:
    """Yield each part of LEAST that a report of coverage.py (JSON) shows too little of, its worst files first."""
    for part, least in LEAST.items():
        below = {name: each["summary"] for name, each in report["files"].items() if name.startswith(f"{part}/")}
        if not below:
            yield Finding(part, 0, "no test reaches it at all")
            continue
        share = _percent(list(below.values()))
        if share < least:
            worst = sorted(below, key=lambda name: _percent([below[name]]))[:3]
            named = ", ".join(f"{Path(name).name} {_percent([below[name]]):.0f} %" for name in worst)
            yield Finding(
                part,
                0,
                f"unit tests reach {share:.1f} % of its lines and branches, and {least:.0f} % are asked ({named})",
            )


def _percent(summaries: Sequence[Mapping[str, int]]) -> float:
    whole = sum(each["num_statements"] + each.get("num_branches", 0) for each in summaries)
    return (
        100.0 * sum(each["covered_lines"] + each.get("covered_branches", 0) for each in summaries) / whole
        if whole
        else 100.0
    )
