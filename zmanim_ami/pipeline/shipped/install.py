"""files/install.tsv: where everything that ships goes, with its owner and mode. The only place that says so.

Columns: type (file, tree, directory), source, destination, owner, mode. A source is a path below files/, `-` for a
directory, or `build:NAME` for what the build makes (bundle, keys, versions.json). A tree's mode is that of its files,
its directories have 0755. `VERSION` in a destination is the image's version.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from support.errors import Error

FILES = Path("infrastructure/packer/files")
TABLE = FILES / "install.tsv"


@dataclass(frozen=True)
class Row:
    """One line of install.tsv, and its number."""

    line: int
    type: str
    source: str
    destination: str
    owner: str
    mode: str


@dataclass(frozen=True)
class Installed:
    """A file below files/ (`source`, relative to it) and what it becomes in the image."""

    source: str
    destination: str
    mode: str


def rows(tree: Path) -> list[Row]:
    """Return the lines of the tree's install.tsv, less its header. Raises `install-table-unreadable`."""
    numbered = list(enumerate((tree / TABLE).read_bytes().decode().split("\n"), 1))[1:]
    fields = {number: line.split("\t") for number, line in numbered if line}
    for number, each in fields.items():
        if len(each) != 5 or not all(each):
            raise Error(
                f"{TABLE}, line {number}, can't be read",
                code="install-table-unreadable",
                expected="5 fields: type, source, destination, owner, mode",
                found=f"{len(list(filter(None, each)))} fields",
            )
    return [Row(number, *each) for number, each in fields.items()]


def installed(tree: Path) -> Iterator[Installed]:
    """Yield every file below files/ that the table installs and that is there, trees file by file.

    Raises `install-table-unreadable`.
    """
    files = tree / FILES
    for row in rows(tree):
        source = files / row.source
        for path in [source, *sorted(source.rglob("*"))]:
            if path.is_file() and "__pycache__" not in path.parts:
                destination = PurePosixPath(row.destination, path.relative_to(source))
                yield Installed(str(path.relative_to(files)), str(destination), row.mode)
