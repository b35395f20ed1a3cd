"""How much of a part unit tests reach: kept for each file of tests, so that only what has changed is counted again.

As a plugin of pytest, beside pytest-cov, it has coverage.py tell the files of tests apart.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import coverage

from zmanim_ami.gate.finding import ask, tool

if TYPE_CHECKING:
    import pytest

# What a file of tests has reached: files relative to the tree, each with its arcs (from line, to line).
Reached = Mapping[str, Sequence[tuple[int, int]]]


def pytest_runtest_protocol(item: pytest.Item) -> None:
    """Count what a test reaches for the file that it is in."""
    counting = coverage.Coverage.current()
    if counting:
        counting.switch_context(item.nodeid.partition("::")[0])


def reached(tree: Path, data: Path, seen: Mapping[str, Collection[str]]) -> dict[str, Reached]:
    """Return what each file of tests has reached, from a data file of coverage.py.

    `seen` has the files that each of them can see: of what was run while all were loaded, it gets the part in those.
    """
    counted = coverage.CoverageData(str(data))
    counted.read()
    root = f"{tree.absolute()}/"
    files = sorted(counted.measured_files())
    found: dict[str, dict[str, Sequence[tuple[int, int]]]] = {}
    loading: dict[str, Sequence[tuple[int, int]]] = {}
    for context in ["", *seen]:
        counted.set_query_context(context)
        arcs: dict[str, Sequence[tuple[int, int]]] = {
            name.removeprefix(root): sorted(counted.arcs(name) or []) for name in files
        }
        if context:
            found[context] = {name: each for name, each in arcs.items() if each}
        else:
            loading = arcs
    return {
        test: {
            name: sorted({*arcs.get(name, ()), *(loading[name] if name in seen[test] else ())})
            for name in {*arcs, *(set(loading) & set(seen[test]))}
        }
        for test, arcs in found.items()
    }


def summaries(tree: Path, parts: Iterable[str], every: Iterable[Reached]) -> dict[str, dict[str, int]]:
    """Return coverage.py's summary of each Python file of `parts`, by its path relative to the tree."""
    arcs: dict[str, set[tuple[int, int]]] = {}
    for each in every:
        for name, known in each.items():
            arcs.setdefault(name, set()).update((first, last) for first, last in known)
    files = [str(path.relative_to(tree)) for part in parts for path in (tree / part).rglob("*.py")]
    root = tree.absolute()
    with tempfile.TemporaryDirectory(prefix="coverage-") as directory:
        data, report = Path(directory, "data"), Path(directory, "report.json")
        counted = coverage.CoverageData(str(data))
        counted.add_arcs({str(root / name): arcs[name] for name in files if name in arcs})
        # What no test reaches counts, too; add_arcs leaves out a file without any.
        counted.touch_files([str(root / name) for name in files])
        counted.write()
        said = ask([tool("coverage"), "json", "--quiet", f"--data-file={data}", "-o", str(report)], tree)
        if not report.exists():
            raise RuntimeError(f"coverage json: {said.stdout}{said.stderr}")
        content = json.loads(report.read_text())["files"]
    names = ("num_statements", "num_branches", "covered_lines", "covered_branches")
    return {name: {key: each["summary"][key] for key in names} for name, each in content.items()}
