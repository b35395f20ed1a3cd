"""Programs that a test puts on PATH in the place of real ones: short shell scripts that say what they were given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest


def on_path(directory: Path, monkeypatch: pytest.MonkeyPatch, programs: Mapping[str, str]) -> Path:
    """Put shell scripts (name: body) first on PATH and return `directory`, which they know as ${HERE}.

    Each writes its arguments to ${HERE}/NAME.arguments first, one a line, with a form feed after the last.
    """
    folder = directory / "bin"
    folder.mkdir(parents=True)
    for name, body in programs.items():
        path = folder / name
        arguments = f"{{ printf '%s\\n' \"$@\"; printf '\\f\\n'; }} >>\"${{HERE}}/{name}.arguments\""
        path.write_text(f"#!/bin/sh\nHERE='{directory}'\n{arguments}\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return directory


def arguments(directory: Path, name: str) -> list[list[str]]:
    """Return the arguments of each call of a program, in their order; none when it was never called."""
    path = directory / f"{name}.arguments"
    if not path.exists():
        return []
    return [call.split("\n") for call in path.read_text().removesuffix("\n\f\n").split("\n\f\n")]
