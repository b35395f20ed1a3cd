"""Unit files as systemd reads them: sections, directives, a list over several lines and an empty value that ends it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from zmanim_ami.pipeline.shipped import install

SUFFIXES = {".service", ".timer", ".mount", ".target", ".path", ".socket"}
PRESET = install.FILES / "zmanim.preset"
DIRECTORY = PurePosixPath("/etc/systemd/system")


@dataclass(frozen=True)
class Directive:
    """One assignment: its section, name and value, and the line it begins on."""

    section: str
    name: str
    value: str
    line: int


@dataclass(frozen=True)
class Unit:
    """A unit file: its path relative to the tree, and its directives in their order."""

    path: Path
    directives: tuple[Directive, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """Return the unit's name."""
        return self.path.name

    def every(self, name: str) -> list[Directive]:
        """Return every assignment of `name`, less what an empty one has taken back."""
        assignments: list[Directive] = []
        for each in self.directives:
            if each.name == name:
                assignments = [*assignments, each] if each.value else []
        return assignments

    def words(self, *names: str) -> list[str]:
        """Return the words of the lists `names`, in their order."""
        return [word for name in names for each in self.every(name) for word in each.value.split()]

    def last(self, name: str) -> str:
        """Return the value of `name` that counts; empty when there is none."""
        assignments = self.every(name)
        return assignments[-1].value if assignments else ""

    def line(self, name: str) -> int:
        """Return where `name` is set last; 1 when it is not."""
        lines = [each.line for each in self.directives if each.name == name]
        return lines[-1] if lines else 1

    @property
    def has_install(self) -> bool:
        """Whether it can be enabled."""
        return any(each.section == "Install" for each in self.directives)


def units(tree: Path) -> list[Unit]:
    """Return the unit files that the tree's install.tsv installs, by name. Raises `install-table-unreadable`."""
    destinations = ((install.FILES / each.source, PurePosixPath(each.destination)) for each in install.installed(tree))
    paths = {path for path, to in destinations if to.parent == DIRECTORY and to.suffix in SUFFIXES}
    return [read(tree, path) for path in sorted(paths)]


def enabled_units(tree: Path) -> list[str]:
    """Return the names that the tree's preset enables, in its order."""
    lines = (line.split() for line in (tree / PRESET).read_text().splitlines())
    return [words[1] for words in lines if words[:1] == ["enable"]]


def read(tree: Path, path: Path) -> Unit:
    """Return the unit file (or drop-in) at `path` of the tree."""
    return Unit(path, tuple(_directives((tree / path).read_text())))


def _directives(text: str) -> Iterator[Directive]:
    section, joined, first = "", "", 0
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        first = first or number
        if stripped.endswith("\\"):
            joined += stripped[:-1] + " "
            continue
        whole, joined = joined + stripped, ""
        if whole.startswith("["):
            section = whole.strip("[]")
        else:
            name, _, value = whole.partition("=")
            yield Directive(section, name.strip(), value.strip(), first)
        first = 0
