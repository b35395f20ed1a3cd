"""What is in the image, read from the tree that the image is made from, for docs/ami-contents.md.

What no file of the tree says comes from a committed extract of an inventory (contents_inventory.py), so the same commit
gives the same page, and a test compares it with the one that is there.
"""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from support.errors import Error
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY
from zmanim_ami.pipeline.pins import versions

PAGE = Path("docs/ami-contents.md")
# The scripts that put shipped files into place, and where the names that they share are set.
_PLACING, _SHARED = ("install-packages.sh", "configure-systemd.sh"), "lib.sh"
_UNIT_SUFFIXES = {".service", ".timer", ".mount", ".target", ".path"}
_RUN_OF_SPACES = re.compile(r"\S\s{2,}\S")


@dataclass(frozen=True)
class Placed:
    """A shipped file: its name below files/, its path and mode in the image, and the purpose that it states itself."""

    source: str
    path: str
    mode: str
    purpose: str


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
    placed: tuple[Placed, ...]
    units: tuple[Unit, ...]
    enabled: tuple[str, ...]
    users: tuple[User, ...]
    settings: Mapping[str, Mapping[str, str]]


def read(root: Path) -> Contents:
    """Read the contents from the clone at `root`. Raises `contents-unreadable`."""
    directory = root / PACKER_DIRECTORY
    files = directory / "files"
    enabled = [line.split()[1] for line in (files / "zmanim.preset").read_text().splitlines() if line[:7] == "enable "]
    return Contents(
        versions=versions.read(root),
        placed=placed(directory),
        units=units(files, enabled),
        enabled=tuple(enabled),
        users=users((files / "zmanim-sysusers.conf").read_text()),
        settings={
            name: settings((files / name).read_text())
            for name in ("postgresql.conf", "redis.conf", "config.env.template")
        },
    )


def placed(directory: Path) -> tuple[Placed, ...]:
    """Return every file below files/ with its place in the image, as the scripts' `install` lines say it.

    Raises `contents-unreadable` when there is a file that no line puts anywhere.
    """
    files, scripts = directory / "files", directory / "scripts"
    texts = [(scripts / name).read_text() for name in _PLACING]
    variables = dict(re.findall(r"readonly (\w+)=(\S+)", "\n".join([(scripts / _SHARED).read_text(), *texts])))
    found: dict[str, Placed] = {}
    for line in (line.strip() for text in texts for line in text.splitlines()):
        if line.startswith("install "):
            found |= {each.source: each for each in _installed(line, variables, files)}
    shipped = [path for path in sorted(files.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]
    lost = [name for name in (str(path.relative_to(files)) for path in shipped) if name not in found]
    if lost:
        raise Error(
            "a file of infrastructure/packer/files goes nowhere",
            code="contents-unreadable",
            expected=f"an install line in {' or '.join(_PLACING)}",
            found=f"none for {', '.join(lost)}",
            fix="install it, or remove it",
        )
    return tuple(sorted(found.values(), key=lambda each: each.path))


def _installed(line: str, variables: Mapping[str, str], files: Path) -> Iterable[Placed]:
    for name, value in {**variables, "STAGING": ""}.items():
        line = line.replace(f"${{{name}}}", value)
    words = shlex.split(line)[1:]
    options = dict(word.split("=", 1) for word in words if word.startswith("--") and "=" in word)
    operands = [word for word in words if not word.startswith("-")]
    if "--directory" in words:
        return
    target = options.get("--target-directory", "")
    sources = operands if target else operands[:-1]
    for source in sources:
        pattern = source.removeprefix("/files/").removeprefix("./")
        if pattern.startswith("/"):
            continue  # from elsewhere: the bundle, the versions file
        for path in sorted(files.glob(pattern)):
            place = f"{target}/{path.name}" if target else operands[-1]
            yield Placed(str(path.relative_to(files)), place, options.get("--mode", "0755"), purpose(path))


def purpose(path: Path) -> str:
    """Return the first sentence of what a file says of itself: a unit's description, a docstring, a header comment."""
    text = path.read_text()
    if path.suffix in _UNIT_SUFFIXES:
        return unit_settings(text).get("Description", [""])[0]
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


def units(files: Path, enabled: Sequence[str]) -> tuple[Unit, ...]:
    """Return every unit of ours: those that start by themselves in the preset's order, then the others.

    Raises `contents-unreadable` for one that nothing starts.
    """
    paths = {path.name: unit_settings(path.read_text()) for path in files.iterdir() if path.suffix in _UNIT_SUFFIXES}
    names = [name for name in enabled if name in paths] + sorted(name for name in paths if name not in enabled)
    return tuple(
        Unit(
            name,
            _starts(name, paths, enabled),
            paths[name].get("User", ["a passing user" if "DynamicUser" in paths[name] else "root"])[-1]
            if name.endswith(".service")
            else "",
            paths[name].get("Description", [""])[0],
        )
        for name in names
    )


def _starts(name: str, known: Mapping[str, Mapping[str, Sequence[str]]], enabled: Sequence[str]) -> str:
    if name in enabled:
        when = known[name].get("OnCalendar", [])
        return f"at boot; fires {when[0]}" if when else "at boot"
    for suffix in (".timer", ".path"):
        starter = name.removesuffix(".service") + suffix
        if starter in known:
            return f"by {starter}"
    failing, wanting = (
        sorted(
            other
            for other, stated in known.items()
            if any(word.replace("%n", "") == name for value in stated.get(setting, []) for word in value.split())
        )
        for setting in ("OnFailure", "Wants")
    )
    if failing or wanting:
        return ", ".join([f"when {other} fails" for other in failing] + [f"with {other}" for other in wanting])
    raise Error(
        f"nothing starts {name}",
        code="contents-unreadable",
        expected="zmanim.preset, a timer, a path, an OnFailure= or a Wants=",
        found="none of them",
    )


def unit_settings(text: str) -> dict[str, list[str]]:
    """Return a unit file's settings, each with all its values in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        name, separator, value = line.partition("=")
        if separator and not line.startswith(("#", ";")):
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def users(sysusers: str) -> tuple[User, ...]:
    """Return the users of a sysusers.d file's text."""
    rows = [shlex.split(line) for line in sysusers.splitlines() if line.startswith("u ")]
    return tuple(User(row[1], row[2], row[3], row[4] if len(row) > 4 else "/") for row in rows)


def settings(text: str) -> dict[str, str]:
    """Return the settings of a file with lines `name value`, `name = value` or `name=value`; the last one wins."""
    lines = (line.strip() for line in text.splitlines())
    pairs = (re.split(r"\s*=\s*|\s+", line, maxsplit=1) for line in lines if line and not line.startswith("#"))
    return {pair[0]: pair[1].strip("'\"") if len(pair) > 1 else "" for pair in pairs}
