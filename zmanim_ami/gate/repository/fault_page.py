"""docs/faults.md: which fault is injected where, and what must happen then, from the markers of the tests.

A test that injects a fault says so: `@pytest.mark.fault(12, injected="…", must="…")`, once for each number. They
are read and not imported: what a marker says has to stand there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from support.git import own_files

PAGE = Path("docs/faults.md")
TESTS = "tests"
# The campaign's numbers, by what breaks.
AREAS: Mapping[str, range] = {
    "The data volume": range(1, 18),
    "PostgreSQL": range(18, 23),
    "Redis": range(23, 29),
    "Backups": range(29, 42),
    "Secrets": range(42, 45),
    "The API's releases": range(45, 48),
    "The image": range(48, 52),
}
# What of a fault no test has tried yet. A number that no test has must stand here; it may only become less.
OPEN: Mapping[int, str] = {
    12: "the image on a disk that is gone under load",
}
_TEST_FILE = re.compile(r"test_\w+\.py")
_TEXTS = ("injected", "must")


@dataclass(frozen=True)
class Mark:
    """One marker: the fault's number, what is injected, what must happen, and the test that carries it."""

    number: int
    injected: str
    must: str
    file: Path
    test: str

    @property
    def folder(self) -> str:
        """Return the folder of the test, below tests/."""
        return str(self.file.parent.relative_to(TESTS))


@dataclass(frozen=True)
class Unreadable:
    """A marker that says too little, or stands where nobody looks for it."""

    file: Path
    line: int
    words: str


def numbers() -> list[int]:
    """Return the numbers of all faults."""
    return [number for area in AREAS.values() for number in area]


def read(tree: Path) -> tuple[list[Mark], list[Unreadable]]:
    """Return the markers of the tests in the clone `tree`, and those that can't be read. Raises SyntaxError."""
    marks: list[Mark] = []
    unreadable: list[Unreadable] = []
    for path in test_files(tree):
        file = path.relative_to(tree)
        text = path.read_text()
        if "mark.fault" not in text:
            continue
        module = ast.parse(text)
        read_here: set[ast.expr] = set()
        for test in tests_of(module):
            for decorator in test.decorator_list:
                if isinstance(decorator, ast.Call) and _is_marker(decorator.func):
                    read_here.add(decorator.func)
                    mark = _mark(decorator, file, test.name)
                    if isinstance(mark, Mark):
                        marks.append(mark)
                    else:
                        unreadable.append(mark)
        for node in ast.walk(module):
            if _is_marker(node) and node not in read_here:
                words = "a fault's marker is called, above a test's function, with its number and its texts"
                unreadable.append(Unreadable(file, getattr(node, "lineno", 0), words))
    return marks, unreadable


def test_files(tree: Path) -> list[Path]:
    """Return every file of the clone `tree` that pytest collects tests from."""
    return [path for path in own_files(tree, TESTS) if _TEST_FILE.fullmatch(path.name)]


def names_of(file: Path) -> set[str]:
    """Return the names of a file's tests: functions, and what else a module gives one's name. Raises SyntaxError."""
    module = ast.parse(file.read_text(), filename=str(file))
    assigned = [target for node in module.body if isinstance(node, ast.Assign) for target in node.targets]
    aliases = {target.id for target in assigned if isinstance(target, ast.Name) and target.id.startswith("test_")}
    return aliases | {test.name for test in tests_of(module)}


def tests_of(module: ast.Module) -> Iterator[ast.FunctionDef]:
    """Yield the tests of a module, those of its classes too."""
    for node in module.body:
        inner = node.body if isinstance(node, ast.ClassDef) and node.name.startswith("Test") else [node]
        yield from (each for each in inner if isinstance(each, ast.FunctionDef) and each.name.startswith("test_"))


def _is_marker(node: ast.AST) -> bool:
    return isinstance(node, ast.Attribute) and node.attr == "fault" and ast.unparse(node) == "pytest.mark.fault"


def _mark(call: ast.Call, file: Path, test: str) -> Mark | Unreadable:
    texts = {keyword.arg: _constant(keyword.value) for keyword in call.keywords}
    arguments = [_constant(argument) for argument in call.args]
    if len(arguments) != 1 or not isinstance(arguments[0], int):
        return Unreadable(file, call.lineno, f"{test}: a fault's marker has one number")
    lacking = [name for name in _TEXTS if not (isinstance(texts.get(name), str) and str(texts[name]).strip())]
    if lacking or set(texts) != set(_TEXTS):
        words = f"fault {arguments[0]}: a marker says {' and '.join(_TEXTS)}, each as a text"
        return Unreadable(file, call.lineno, f"{test}: {words}")
    return Mark(arguments[0], str(texts["injected"]), str(texts["must"]), file, test)


def _constant(node: ast.expr) -> object:
    return node.value if isinstance(node, ast.Constant) else None


# ---- The page ----


def write(tree: Path) -> None:
    """Write the page anew."""
    (tree / PAGE).write_text(text(read(tree)[0]))


def text(marks: Sequence[Mark], not_tried: Mapping[int, str] | None = None) -> str:
    """Return the page, from the markers alone."""
    return "\n".join(_lines(marks, OPEN if not_tried is None else not_tried)) + "\n"


def _lines(marks: Sequence[Mark], not_tried: Mapping[int, str]) -> Iterator[str]:
    tried = {mark.number for mark in marks}
    yield from (
        "# What is broken on purpose, and what must happen then",
        "",
        "Written by `./inv write-contents` from the markers `@pytest.mark.fault(…)` of the tests; the gate's check",
        "`campaign` refuses a number without a test and a page that is out of date. A test's folder says what it was",
        "tried on: `faults` and `machines` boot the image, `kernel` does so with a kernel of its own, `gate` seeds a",
        "defect into a copy of the tree, `unit` asks the code alone. What was seen when they last ran here is in",
        "`build/faults/result.json` ([its form](quality.md#what-was-seen-of-the-faults)).",
        "",
        f"{len(tried)} of {len(numbers())} faults have a test; of {len(not_tried)} something has not been tried yet.",
    )
    for area, of_area in AREAS.items():
        yield from ("", f"## {area}", "", "| | injected | must happen | tests |", "| ---: | --- | --- | --- |")
        for number in of_area:
            yield from _rows(number, [mark for mark in marks if mark.number == number])
            if number in not_tried:
                yield f"| {number} | {_cell(not_tried[number])} | **not tried yet** | |"


def _rows(number: int, marks: Iterable[Mark]) -> Iterator[str]:
    tests: dict[tuple[str, str], list[Mark]] = {}
    for mark in marks:
        tests.setdefault((mark.injected, mark.must), []).append(mark)
    # What boots a machine comes first.
    for (injected, must), carrying in sorted(tests.items(), key=lambda item: item[1][0].folder.startswith("unit")):
        links = "<br>".join(f"{mark.folder}: [{mark.test}](../{mark.file})" for mark in carrying)
        yield f"| {number} | {_cell(injected)} | {_cell(must)} | {links} |"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("\n", " ")
