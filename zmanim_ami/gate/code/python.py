"""Python: lint and format by ruff."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from zmanim_ami.gate.finding import Finding, complaints, tool


def check(tree: Path) -> list[Finding]:
    """Return ruff's complaints about the tree, and the files that it would write in another way."""
    found = complaints([tool("ruff"), "check", "--quiet", "--no-cache", "--output-format=concise", "."], tree)
    command = [tool("ruff"), "format", "--check", "--quiet", "--no-cache", "--output-format=concise", "."]
    would = complaints(command, tree)
    return found + [replace(each, words=f"not as ruff writes it: ruff format {each.file}") for each in would]
