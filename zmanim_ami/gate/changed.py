"""What a change touches: the files that differ from where this branch left main."""

from __future__ import annotations

import subprocess
from pathlib import Path


def changed_files(tree: Path) -> list[str]:
    """Return the files that differ from the merge base with main, committed or not, new ones and removed ones too.

    Without a branch main (a CI's shallow clone has none) everything counts as changed.
    """
    base = next((found for name in ("main", "origin/main") if (found := _git(tree, "merge-base", "HEAD", name))), "")
    if not base:
        return _git(tree, "ls-files").splitlines()
    differing = _git(tree, "diff", "--name-only", "--no-renames", base.strip()).splitlines()
    new = _git(tree, "ls-files", "--others", "--exclude-standard").splitlines()
    return sorted({*differing, *new})


def _git(tree: Path, *arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={tree.absolute()}", "-c", "core.quotePath=false", *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False).stdout
