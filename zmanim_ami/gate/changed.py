"""What a change touches: the files that differ from where this branch left main."""

from __future__ import annotations

from pathlib import Path

from support.git import git


def changed_files(tree: Path) -> list[str]:
    """Return the files that differ from the merge base with main, committed or not, new ones and removed ones too.

    Without a branch main (a CI's shallow clone has none) everything counts as changed.
    """
    bases = (git(tree, "merge-base", "HEAD", name, check=False) for name in ("main", "origin/main"))
    base = next(filter(None, bases), "")
    if not base:
        return git(tree, "ls-files").splitlines()
    differing = git(tree, "diff", "--name-only", "--no-renames", base.strip()).splitlines()
    new = git(tree, "ls-files", "--others", "--exclude-standard").splitlines()
    return sorted({*differing, *new})
