"""Python: lint and format by ruff."""

from __future__ import annotations

from pathlib import Path

from gate.finding import Finding, ask, complaints, tool


def check(tree: Path) -> list[Finding]:
    """Return ruff's complaints about the tree, and the files that it would write in another way."""
    found = complaints([tool("ruff"), "check", "--quiet", "--no-cache", "--output-format=concise", "."], tree)
    said = ask([tool("ruff"), "format", "--check", "--no-cache", "."], tree)
    would = [line.removeprefix("Would reformat: ") for line in said.stdout.splitlines() if line.startswith("Would")]
    return found + [Finding(name, 0, f"not as ruff writes it: ruff format {name}") for name in would]
