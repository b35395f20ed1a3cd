"""What git says of a clone, whoever owns it."""

from __future__ import annotations

from pathlib import Path

from support.process import run


def git(clone: Path, *arguments: str, check: bool = True, input: str | None = None) -> str:
    """Return what a git command prints in `clone`; `input` is its stdin.

    Raises CommandFailed (unless `check` is False), HostLacks.
    """
    # Root in somebody else's clone is the rule for rehearsals; git refuses that unless told, for this command alone.
    options = ["-C", str(clone), "-c", f"safe.directory={clone.absolute()}", "-c", "core.quotePath=false"]
    return run(["git", *options, *arguments], check=check, input=input).stdout


def own_files(clone: Path, *below: str) -> list[Path]:
    """Return the files of `clone` that git tracks or would track, in order; only those in the folders `below`, if any.

    Raises as `git` does.
    """
    listed = git(clone, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", *below)
    paths = [clone / name for name in listed.split("\0") if name]
    return sorted({path for path in paths if path.is_file() or path.is_symlink()})
