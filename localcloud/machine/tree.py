"""Reading and writing below a root file system tree that somebody else made, as root, without leaving it.

A tree's `etc` may be a link to /etc, and its files may be devices: of this host, when root opens them from outside.
Nothing runs in the tree meanwhile, so what was looked at stays so until it is opened.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path, PurePosixPath

# As many links as the kernel follows in one path.
_MOST_LINKS = 40


def inside(root: Path, relative: str) -> Path:
    """Return the path that `relative` leads to in the tree, links followed as its guest would: from `root`.

    The end need not exist; it is no link. Raises OSError (ELOOP) where links go round.
    """
    waiting = list(reversed(PurePosixPath(relative).parts))
    done: list[str] = []
    links = 0
    while waiting:
        part = waiting.pop()
        if part.startswith("/"):  # or "//", which POSIX lets mean something else
            done = []
        elif part == "..":
            done = done[:-1]
        elif (path := root.joinpath(*done, part)).is_symlink():
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, "links go round in the tree", relative)
            waiting += reversed(PurePosixPath(path.readlink()).parts)
        else:
            done.append(part)
    return root.joinpath(*done)


def read(root: Path, relative: str) -> bytes | None:
    """Return what a file of the tree holds, None where it leads to no regular file."""
    path = inside(root, relative)
    return path.read_bytes() if path.is_file() else None


def write(root: Path, relative: str, content: bytes) -> None:
    """Write a file of the tree; whatever else than a regular file is there makes room for it.

    A file that has another name besides, in another tree of the same files, stays there as it was. Raises OSError when
    the tree can't be written to.
    """
    path = inside(root, relative)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.stat() if path.is_file() else None
    if before is None or before.st_nlink > 1:
        path.unlink(missing_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o644)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        if before is not None and before.st_nlink > 1:
            os.fchown(file.fileno(), before.st_uid, before.st_gid)
            os.fchmod(file.fileno(), before.st_mode & 0o7777)
