"""SHA-256 digests of files and trees, the keys of everything that is cached or proven."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits.

    Raises OSError when the file can't be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(*texts: str) -> str:
    """Return one SHA-256 over several texts, in their order; where one ends and the next begins counts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(f"{len(text)}:{text}\n".encode())
    return digest.hexdigest()


def tree_sha256(root: Path, paths: Iterable[Path]) -> str:
    """Return one SHA-256 over the names, executable bits and contents of `paths` (files below `root`).

    The order of `paths` does not matter, nor does where `root` is: two clones with the same files agree.
    """
    digest = hashlib.sha256()
    for relative in sorted({path.relative_to(root).as_posix() for path in paths}):
        path = root / relative
        if path.is_symlink():
            kind, content = "link", hashlib.sha256(str(path.readlink()).encode()).hexdigest()
        else:
            kind, content = ("exec" if os.access(path, os.X_OK) else "file"), file_sha256(path)
        digest.update(f"{relative}\0{kind}\0{content}\n".encode())
    return digest.hexdigest()


def files_below(directory: Path) -> list[Path]:
    """Return every file and link below `directory`, leaving out compiled Python, in a stable order."""
    return sorted(
        path
        for path in directory.rglob("*")
        if (path.is_symlink() or path.is_file()) and "__pycache__" not in path.parts
    )
