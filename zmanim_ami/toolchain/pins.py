"""Which tools there are and which versions, as the Go modules below tools/ pin them: written there and nowhere else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from support.errors import Error

MODULES = Path(__file__).resolve().parents[2] / "tools"


@dataclass(frozen=True)
class Pin:
    """One tool: the module that pins it, and what its go.mod says."""

    name: str
    directory: Path  # holds go.mod and go.sum
    package: str  # the main package that `go build` makes, from the `tool` directive
    module: str  # that the package is in
    version: str  # of that module, without the leading "v"
    go: str  # the oldest Go that builds it, such as "1.25.11"


def pin(name: str, modules: Path = MODULES) -> Pin:
    """Read the module `modules/name`.

    Raises `pin-unreadable` when it has no go.mod, or one without a tool, that tool's version or a Go version.
    """
    directory = modules / name
    try:
        text = (directory / "go.mod").read_text(encoding="utf-8")
    except OSError as error:
        raise _unreadable(directory, "a go.mod file", str(error)) from error
    package = _only(r"^tool (\S+)$", text, directory, "one `tool` directive")
    required = dict(re.findall(r"^(?:require\s+|\t)(\S+) v(\S+)", text, re.MULTILINE))
    # The module of a package is the longest required path that it begins with.
    module = max((path for path in required if f"{package}/".startswith(f"{path}/")), key=len, default=None)
    if module is None:
        raise _unreadable(directory, f"a `require` of the module that holds {package}", "none")
    go = _only(r"^go (\S+)$", text, directory, "one `go` line")
    return Pin(name, directory, package, module, required[module], go)


def pins(modules: Path = MODULES) -> list[Pin]:
    """Return every pinned tool, by name.

    Raises `pin-unreadable`.
    """
    return [pin(path.parent.name, modules) for path in sorted(modules.glob("*/go.mod"))]


def versions(modules: Path = MODULES) -> dict[str, str]:
    """Return each pinned tool's version without a leading "v", such as {"packer": "1.15.0"}.

    Raises `pin-unreadable`.
    """
    return {each.name: each.version for each in pins(modules)}


def _only(pattern: str, text: str, directory: Path, expected: str) -> str:
    matches = re.findall(pattern, text, re.MULTILINE)
    if len(matches) != 1:
        raise _unreadable(directory, expected, f"{len(matches)} of them")
    return str(matches[0])


def _unreadable(directory: Path, expected: str, found: str) -> Error:
    return Error(
        f"the module {directory.name} does not say what it pins",
        code="pin-unreadable",
        expected=expected,
        found=f"{found} in {directory}",
        fix="restore it from version control",
    )
