"""Things that are slow to build, kept by the digest of what they were built from.

A finished entry appears by one rename, under a lock: an interrupted build is never taken for a finished one, and two
builders of the same entry do the work once.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.progress import say


def user_cache() -> Path:
    """Return this user's cache directory for the project (XDG Base Directory Specification), not made yet."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "zmanim-ami"


@contextmanager
def locked(lock: Path, waiting_for: str) -> Iterator[None]:
    """Hold an exclusive lock on the file `lock`; say once what is waited for when another process has it.

    The kernel drops the lock with its holder, so nothing is left to clean after a kill.
    """
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting: another process is busy with {waiting_for}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cache_entry(parent: Path, name: str, digest: str) -> Path:
    """Return where `cached_directory` keeps a result: a directory that exists only once it is finished."""
    return parent / f"{name}-{digest[:16]}"


def cached_directory(parent: Path, name: str, digest: str, build: Callable[[Path], None]) -> Path:
    """Return `parent/name-digest`, calling `build(empty directory)` first when it is not there yet.

    `digest` must cover everything the result depends on. What `build` raises is raised again and leaves no entry.
    """
    entry = cache_entry(parent, name, digest)
    if entry.is_dir():
        return entry
    with locked(parent / f".{name}.lock", name):
        if entry.is_dir():
            return entry
        unfinished = parent / f".{name}.unfinished"
        if unfinished.exists():
            shutil.rmtree(unfinished)
        unfinished.mkdir(parents=True)
        build(unfinished)
        unfinished.rename(entry)
    return entry
