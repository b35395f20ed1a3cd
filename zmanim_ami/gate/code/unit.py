"""Unit tests: no root, no network; and how much of the pipeline and of the shipped Python they reach, branches counted.

What is counted is traced, which makes it slow: only the tests of those two parts run under coverage, the others beside
them without. A file of tests that has passed is not run again as long as all that it can see stays the same
(zmanim_ami/gate/code/selection.py, and what is around the tree).
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.digest import text_sha256
from support.parallel import side_by_side
from support.process import Completed
from zmanim_ami.gate import cache
from zmanim_ami.gate.code import coverage as reach
from zmanim_ami.gate.code import selection
from zmanim_ami.gate.finding import Finding, ask, files

TESTS = selection.TESTS
# The least percentage of statements and branches, as coverage.py counts them together, by part.
LEAST: Mapping[str, float] = {
    "zmanim_ami/pipeline": 90.0,
    "infrastructure/packer/files/zmanim_host": 90.0,
}
_TRACED = re.compile(r"tests/unit/(pipeline|host)/")
_FAILED = re.compile(r"(?:FAILED|ERROR) (\S+?\.py)(?:::(\S+))?(?: - (.*))?$")
# What decides which tests run, and what is kept of them.
_OURS = tuple(
    Path("zmanim_ami/gate", name) for name in ("code/unit.py", "code/selection.py", "code/coverage.py", "cache.py")
)


def check(tree: Path, only: Sequence[str] = ()) -> list[Finding]:
    """Return each test that fails, and each part that the tests reach too little of.

    `only` names test files: then all of those run, and nothing is counted.
    """
    if only:
        return list(_failures(_pytest(tree, only), tree))
    asked = _asked(tree)
    before = cache.load(tree, "unit")
    counted = [name for name in asked if _TRACED.match(name)]
    # What has passed without being counted runs once more under coverage.
    stale = {
        name
        for name, each in asked.items()
        if not _is_kept(before, name, each.digest) or (name in counted and before[name]["reached"] is None)
    }
    with tempfile.TemporaryDirectory(prefix="coverage-") as directory:
        data = Path(directory, "data")
        traced = sorted(stale & set(counted))
        others = sorted(stale - set(counted))
        options = [
            *(f"--cov={part}" for part in LEAST),
            "--cov-branch",
            "--cov-report=",
            "-p",
            "zmanim_ami.gate.code.coverage",
        ]
        runs = [
            *([lambda: _pytest(tree, traced, options, {"COVERAGE_FILE": str(data)})] if traced else []),
            *([lambda: _pytest(tree, others)] if others else []),
        ]
        found = [finding for said in side_by_side(runs) for finding in _failures(said, tree)] if runs else []
        reached = reach.reached(tree, data, {name: asked[name].sees for name in traced}) if data.exists() else {}
    after = _after(asked, before, stale, reached, found)
    cache.save(tree, "unit", after)
    if not found:
        found = list(coverage(_summaries(tree, [after[name] for name in counted])))
    _tell(len(stale), len(asked))
    return found


def check_changed(tree: Path, changed: Sequence[str]) -> list[Finding]:
    """Return each test that fails of those that a change of these files may turn; nothing is counted."""
    only = selection.tests_of(tree, changed)
    if not only:
        print("unit: no test can see the change")
        return []
    asked = _asked(tree, only)
    before = cache.load(tree, "unit")
    stale = {name for name in only if not _is_kept(before, name, asked[name].digest)}
    found = list(_failures(_pytest(tree, sorted(stale)), tree)) if stale else []
    cache.save(tree, "unit", _after(asked, before, stale, {}, found))
    _tell(len(stale), len(only))
    return found


def _tell(run: int, every: int) -> None:
    print(f"unit: {run} of {every} files of tests have run; the others passed, and what they see has not changed since")


@dataclass(frozen=True)
class _Asked:
    """What a file of tests can see, and the digest of all of that."""

    sees: Collection[str]
    digest: str


def _asked(tree: Path, tests: Sequence[str] = ()) -> dict[str, _Asked]:
    content = cache.digests(tree, files(tree))
    around = text_sha256(cache.surroundings(), *(content.get(str(path), "") for path in _OURS))
    return {
        test: _Asked(frozenset(sees), text_sha256(around, *(f"{name} {content[name]}" for name in sees)))
        for test, sees in selection.seen(tree, content, tests).items()
    }


def _is_kept(before: Mapping[str, Any], name: str, digest: str) -> bool:
    return name in before and before[name]["digest"] == digest


def _after(
    asked: Mapping[str, _Asked],
    before: Mapping[str, Any],
    stale: Collection[str],
    reached: Mapping[str, reach.Reached],
    found: Sequence[Finding],
) -> dict[str, Any]:
    """Return what is kept from now on: each file of tests that has passed, now or before, as it is now."""
    # What failed without naming a test could be any of them.
    failed = {finding.file for finding in found} if all(finding.file for finding in found) else set(stale)
    after = {name: before[name] for name, each in asked.items() if name not in stale and name in before}
    passed = [name for name in stale if name not in failed]
    return after | {name: {"digest": asked[name].digest, "reached": reached.get(name)} for name in passed}


def _summaries(tree: Path, counted: Sequence[Mapping[str, Any]]) -> Mapping[str, Mapping[str, int]]:
    sources = cache.digests(tree, [path.relative_to(tree) for part in LEAST for path in (tree / part).rglob("*.py")])
    digest = text_sha256(*(each["digest"] for each in counted), json.dumps(sources, sort_keys=True))
    before = cache.load(tree, "reach")
    if before.get("digest") != digest:
        before = {"digest": digest, "files": reach.summaries(tree, LEAST, [each["reached"] for each in counted])}
        cache.save(tree, "reach", before)
    found: Mapping[str, Mapping[str, int]] = before["files"]
    return found


def _pytest(
    tree: Path, names: Sequence[str], options: Sequence[str] = (), env: Mapping[str, str] | None = None
) -> Completed:
    # Wide, so that the last lines hold each assertion whole. A worker takes a second to load what the tests import.
    workers = ["-n", "2"] if len(names) > 5 else []
    command = [sys.executable, "-m", "pytest", "-q", "--no-header", "-p", "no:cacheprovider"]
    # A place of this run's own: those that share one remove each other's leavings, and fall over what is just going.
    with tempfile.TemporaryDirectory(prefix="unit-") as directory:
        command += [*workers, *options, f"--basetemp={directory}/tests", *names]
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


def coverage(summaries: Mapping[str, Mapping[str, int]]) -> Iterator[Finding]:
    """Yield each part of LEAST that coverage.py's summaries show too little of, its worst files first."""
    for part, least in LEAST.items():
        below = {name: each for name, each in summaries.items() if name.startswith(f"{part}/")}
        if not any(each["covered_lines"] for each in below.values()):
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
