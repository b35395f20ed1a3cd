"""Ways to seed a defect: each changes one thing in a copy of the tree, or fails when there is nothing to change."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.git import git
from zmanim_ami.pipeline.ami import provenance

Seed = Callable[[Path], None]


class NothingToChange(AssertionError):
    """The tree has moved on, and the row proves nothing any more: mend the row."""


@dataclass(frozen=True)
class Row:
    """One defect: what is done to a copy of the tree, the check that must fail, and words that it must say.

    `dod` is the point of the definition of done, `lesson` the incident (a key of LESSONS) that the row stands for.
    `only` names the tests that the checks `unit` and `contract` run: all of them would take a minute a row. With
    `changed` the copy is a clone whose main has no defect, and the check runs with --changed.
    """

    name: str
    check: str
    seed: Seed
    words: str
    dod: int = 0
    lesson: str = ""
    only: tuple[str, ...] = ()
    changed: bool = False


def sub(path: str, pattern: str, replacement: str, *, every: bool = False) -> Seed:
    """Replace the first match of `pattern` (or each): a regular expression, ^ and $ meaning lines."""

    def seed(tree: Path) -> None:
        text = _read(tree / path)
        changed, count = re.subn(pattern, replacement, text, count=0 if every else 1, flags=re.MULTILINE)
        if not count or changed == text:
            raise NothingToChange(f"{path} has nothing like {pattern!r}")
        (tree / path).write_text(changed)

    return seed


def drop(path: str, pattern: str) -> Seed:
    """Take the first line that matches `pattern` away."""
    return sub(path, rf"^.*(?:{pattern}).*\n", "")


def append(path: str, text: str) -> Seed:
    """Write `text` at the end of a file that is there."""

    def seed(tree: Path) -> None:
        before = _read(tree / path)
        (tree / path).write_text(before + text)

    return seed


def new(path: str, text: str) -> Seed:
    """Make a file that is not there yet."""

    def seed(tree: Path) -> None:
        if (tree / path).exists():
            raise NothingToChange(f"{path} is there already")
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        (tree / path).write_text(text)

    return seed


def each_of(*seeds: Seed) -> Seed:
    """Seed several changes that are one defect together."""

    def seed(tree: Path) -> None:
        for each in seeds:
            each(tree)

    return seed


def modules(folder: str, count: int) -> Seed:
    """Make a folder of so many modules."""

    def seed(tree: Path) -> None:
        for number in range(count):
            new(f"{folder}/module_{number}.py", '"""One of many."""\n')(tree)

    return seed


def delete(path: str) -> Seed:
    """Take a file away."""

    def seed(tree: Path) -> None:
        _read(tree / path)
        (tree / path).unlink()

    return seed


def without_tests_but(*names: str) -> Seed:
    """Take every unit test away but these."""

    def seed(tree: Path) -> None:
        spared = {tree / "tests/unit" / name for name in names}
        for path in spared:
            _read(path)
        for path in (tree / "tests/unit").rglob("test_*.py"):
            if path not in spared:
                path.unlink()

    return seed


def rehearsal(name: Path, **result: Any) -> Seed:
    """Leave the result of a rehearsal of exactly this tree in the file of that name."""

    def seed(tree: Path) -> None:
        git(tree, "add", "-A")
        path = tree / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps({"sources": provenance.sources(tree), **result}))

    return seed


def _read(path: Path) -> str:
    if not path.is_file():
        raise NothingToChange(f"{path.name} is not there")
    return path.read_text()
