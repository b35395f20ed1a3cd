"""The campaign of faults: each has a test that says what it breaks, and every test that a page names is one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from zmanim_ami.gate.finding import Finding, files
from zmanim_ami.gate.repository import fault_page
from zmanim_ami.gate.repository.fault_page import OPEN, PAGE, Mark

_OPEN_FILE = "zmanim_ami/gate/repository/fault_page.py"
_NAMED = re.compile(r"`(test_\w+)`")
_PATH = re.compile(r"`(tests/[\w/]+\.\w+)(?:::\w+)?`")
# The last columns of a table of threats.
_CANNOT, _SHOWN = "cannot", "shown by"


def check(tree: Path) -> list[Finding]:
    """Return each fault without a test, each marker that says too little, and each name on a page of no test."""
    try:
        marks, unreadable = fault_page.read(tree)
        names = set[str]().union(*map(fault_page.names_of, fault_page.test_files(tree)))
    except SyntaxError as error:
        return [Finding("", 0, f"a test can't be read: {error}")]
    findings = [Finding(str(each.file), each.line, each.words) for each in unreadable]
    findings += [*_numbers(marks), *_current(tree, marks)]
    for path in files(tree):
        if path.suffix == ".md":
            findings += _tests_of_page(tree, path, names)
    return findings


def _numbers(marks: Sequence[Mark]) -> Iterator[Finding]:
    known, tried = set(fault_page.numbers()), {mark.number for mark in marks}
    for mark in marks:
        if mark.number not in known:
            yield Finding(str(mark.file), 0, f"{mark.test}: there is no fault {mark.number}")
    for number in sorted(known - tried - OPEN.keys()):
        yield Finding("", 0, f"fault {number} has no test that says so (pytest.mark.fault)")
    for number in sorted(OPEN.keys() - known):
        yield Finding(_OPEN_FILE, 0, f"OPEN: there is no fault {number}")


def _current(tree: Path, marks: Sequence[Mark]) -> Iterator[Finding]:
    path = tree / PAGE
    lines = path.read_text().splitlines() if path.is_file() else []
    differing = list(difflib.unified_diff(lines, fault_page.text(marks).splitlines(), lineterm="", n=0))[3:7]
    if differing:
        yield Finding(str(PAGE), 0, "\n".join(["out of date: run ./inv write-contents", *differing]))


def _tests_of_page(tree: Path, page: Path, names: set[str]) -> Iterator[Finding]:
    cannot = -1
    for number, line in enumerate((tree / page).read_text().splitlines(), 1):
        for name in _NAMED.findall(line):
            if name not in names:
                yield Finding(str(page), number, f"there is no test {name}")
        for name in _PATH.findall(line):
            if not (tree / name).exists():
                yield Finding(str(page), number, f"there is no {name}")
        if not line.startswith("|"):
            cannot = -1
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if cells[-1] == _SHOWN and _CANNOT in cells:
            cannot = cells.index(_CANNOT)
        elif cannot >= 0 and cells[cannot].strip("- ") and not _test_in(cells[-1]):
            yield Finding(str(page), number, f"no test shows that this can't be: {cells[cannot]}")


def _test_in(cell: str) -> bool:
    return _NAMED.search(cell) is not None or _PATH.search(cell) is not None
