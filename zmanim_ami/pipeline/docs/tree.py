"""What is in the image, read from the tree that the image is made from, for docs/ami-contents.md.

What no file of the tree says comes from a committed extract of an inventory (inventory.py), so the same commit
gives the same page, and a test compares it with the one that is there.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.errors import Error
from zmanim_ami.pipeline.pins import versions
from zmanim_ami.pipeline.shipped import install, unit_files
from zmanim_ami.pipeline.shipped.server_settings import effective

PAGE = Path("docs/ami-contents.md")
_RUN_OF_SPACES = re.compile(r"\S\s{2,}\S")


@dataclass(frozen=True)
class Unit:
    """A unit of ours: what makes it start, as whom it runs ("root", or a name), its description."""

    name: str
    starts: str
    user: str
    purpose: str


@dataclass(frozen=True)
class User:
    """A system user with a fixed number."""

    name: str
    number: str
    comment: str
    home: str


@dataclass(frozen=True)
class Contents:
    """All that the page says; `versions` is the versions file."""

    versions: Mapping[str, Any]
    placed: tuple[install.Installed, ...]
    units: tuple[Unit, ...]
    enabled: tuple[str, ...]
    users: tuple[User, ...]
    settings: Mapping[str, Mapping[str, str]]

    def state(self, unit: str) -> str:
        """Return what `systemctl is-enabled` says of a unit in an image of this tree."""
        return "enabled" if unit in self.enabled else "static"


def read(root: Path) -> Contents:
    """Read the contents from the clone at `root`. Raises `contents-unreadable`, `install-table-unreadable`."""
    files = root / install.FILES
    enabled = unit_files.enabled_units(root)
    return Contents(
        versions=versions.read(root),
        placed=tuple(sorted(install.installed(root), key=lambda each: each.destination)),
        units=units(root, enabled),
        enabled=tuple(enabled),
        users=users((files / "zmanim-sysusers.conf").read_text()),
        settings={
            name: {key: values[-1].text for key, values in effective(files / name).items()}
            for name in ("postgresql.conf", "redis.conf", "config.env.template")
        },
    )


def purpose(root: Path, path: Path) -> str:
    """Return the first sentence of what a file says of itself: a unit's description, a docstring, a header comment."""
    if path.suffix in unit_files.SUFFIXES:
        return unit_files.read(root, path).last("Description")
    text = (root / path).read_text()
    if path.suffix == ".py" or "python" in text.partition("\n")[0]:
        return _sentence(_docstring(text).partition("\n\n")[0].split())
    words: list[str] = []
    for line in text.splitlines():
        if line.startswith("#!"):
            continue
        match = re.match(r"(?:#|--) (.*)", line)
        if match is None or _RUN_OF_SPACES.search(match[1]):
            break  # the end of the comment, or the heading of a table, which is no sentence
        words += match[1].split()
    return _sentence(words)


@cache
def _docstring(text: str) -> str:
    # Three quarters of a page's time went into parsing; the same program is asked for more than once.
    return ast.get_docstring(ast.parse(text)) or ""


def _sentence(words: Sequence[str]) -> str:
    return " ".join(words).partition(". ")[0].removesuffix(".")


def units(root: Path, enabled: Sequence[str]) -> tuple[Unit, ...]:
    """Return every unit of ours: those that start by themselves in the preset's order, then the others.

    Raises `contents-unreadable` for one that nothing starts, `install-table-unreadable`.
    """
    ours = {unit.name: unit for unit in unit_files.units(root)}
    names = [name for name in enabled if name in ours] + sorted(name for name in ours if name not in enabled)
    return tuple(
        Unit(name, _starts(name, ours, enabled), _user(ours[name]), ours[name].last("Description")) for name in names
    )


def _user(unit: unit_files.Unit) -> str:
    if unit.path.suffix != ".service":
        return ""
    return unit.last("User") or ("a passing user" if unit.last("DynamicUser") else "root")


def _starts(name: str, ours: Mapping[str, unit_files.Unit], enabled: Sequence[str]) -> str:
    if name in enabled:
        when = ours[name].last("OnCalendar")
        return f"at boot; fires {when}" if when else "at boot"
    for suffix in (".timer", ".path"):
        starter = name.removesuffix(".service") + suffix
        if starter in ours:
            return f"by {starter}"
    failing, succeeding, wanting = (
        [
            other
            for other, unit in sorted(ours.items())
            if name in (word.replace("%n", "") for word in unit.words(list_))
        ]
        for list_ in ("OnFailure", "OnSuccess", "Wants")
    )
    starters = [f"when {other} fails" for other in failing]
    starters += [f"after {other} is done" for other in succeeding] + [f"with {other}" for other in wanting]
    if starters:
        return ", ".join(starters)
    raise Error(
        f"nothing starts {name}",
        code="contents-unreadable",
        expected="zmanim.preset, a timer, a path, an OnFailure=, OnSuccess= or Wants=",
        found="none of them",
    )


def users(sysusers: str) -> tuple[User, ...]:
    """Return the users of a sysusers.d file's text."""
    rows = [shlex.split(line) for line in sysusers.splitlines() if line.startswith("u ")]
    return tuple(User(row[1], row[2], row[3], row[4] if len(row) > 4 else "/") for row in rows)
