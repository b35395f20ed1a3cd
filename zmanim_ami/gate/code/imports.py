"""Directions between the parts: import-linter's contracts of pyproject.toml."""

from __future__ import annotations

from pathlib import Path

from zmanim_ami.gate.finding import Finding, ask, tool


def check(tree: Path) -> list[Finding]:
    """Return each import that goes against a contract."""
    said = ask([tool("lint-imports"), "--no-cache"], tree)
    if said.returncode == 0:
        return []
    broken = said.stdout.partition("Broken contracts")[2] or said.stdout + said.stderr
    lines = [line.strip() for line in broken.splitlines() if line.strip() and set(line.strip()) != {"-"}]
    return [Finding("", 0, line) for line in lines]
