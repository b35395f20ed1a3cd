"""What a check has found, and the words of the tools that a check asks."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from support.errors import HostLacks
from support.git import own_files
from support.process import Completed, run

# PATH:LINE: or PATH:LINE:COLUMN: before the words, as compilers have it.
_LOCATION = re.compile(r"(?P<file>[^\s:][^:\n]*):(?P<line>\d+):(?:\d+:)?\s*(?P<words>.+)")


class Level(Enum):
    """How much a finding weighs."""

    ERROR = "error"  # fails the run
    WARNING = "warning"  # shown, fails nothing
    SKIPPED = "skipped"  # a program is not on this host: fails in CI, is shown and counted elsewhere
    NOTE = "note"  # shown everywhere, fails nothing


@dataclass(frozen=True)
class Finding:
    """One thing, where it is (`file` relative to the tree, or empty; `line` from 1 on, 0: the whole file), in words."""

    file: str
    line: int
    words: str
    level: Level = Level.ERROR

    def __str__(self) -> str:
        location = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        return f"{location}{self.words}" if self.level is Level.ERROR else f"{location}{self.level.value}: {self.words}"


def files(tree: Path) -> list[Path]:
    """Return every file of the clone `tree` that git tracks or would, relative to it, in order."""
    return [path.relative_to(tree) for path in own_files(tree) if path.is_file()]


def numbered(text: str, comment: str = "#") -> list[tuple[int, str]]:
    """Return the lines that say something, with their numbers: no blank ones, none that is only a comment."""
    lines = enumerate(text.splitlines(), 1)
    return [(number, line) for number, line in lines if line.strip() and not line.lstrip().startswith(comment)]


def line_of(text: str, part: str) -> int:
    """Return the number of the first line that holds `part`, 1 when none does."""
    return next((number for number, line in enumerate(text.splitlines(), 1) if part in line), 1)


def tool(name: str) -> str:
    """Return the path of a program of the project's own environment."""
    return str(Path(sys.prefix) / "bin" / name)


def ask(command: Sequence[str], tree: Path, env: Mapping[str, str] | None = None) -> Completed:
    """Run a tool in the tree and return what it wrote, whatever its exit code; raises HostLacks when there is none."""
    plain = {**(os.environ if env is None else env), "LC_ALL": "C.UTF-8", "NO_COLOR": "1"}
    return run(command, cwd=tree, env=plain, check=False)


def complaints(command: Sequence[str], tree: Path, env: Mapping[str, str] | None = None) -> list[Finding]:
    """Run a tool that says by its exit code whether it has found something, and return its lines as findings."""
    done = ask(command, tree, env)
    if done.returncode == 0:
        return []
    lines = located((done.stdout + done.stderr).splitlines(), tree)
    return lines or [Finding("", 0, f"{Path(command[0]).name} ended with exit code {done.returncode}")]


def located(lines: Iterable[str], tree: Path) -> list[Finding]:
    """Turn a tool's lines into findings, with file and line where a line names them."""
    findings = []
    for line in filter(None, map(str.rstrip, lines)):
        match = _LOCATION.match(line)
        name = match["file"].removeprefix(f"{tree.absolute()}/").removeprefix("./") if match else ""
        findings.append(Finding(name, int(match["line"]), match["words"]) if match else Finding("", 0, line))
    return findings


def skipped(lacks: HostLacks, what: str) -> Finding:
    """Return the finding for something that was skipped because a program is not on this host."""
    return Finding("", 0, f"{what}: {lacks.summary}", Level.SKIPPED)
