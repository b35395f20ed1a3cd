"""Things that are slow to build, kept by the digest of what they were built from.

A finished entry appears by one rename, under a lock: an interrupted build is never taken for a finished one, and two
builders of the same entry do the work once.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from support.progress import say

# An entry of the same name that nobody asked for in this time is deleted when a new one is finished. Not at once: two
# clones may take turns, and a running cloud has its base from here.
UNUSED_SECONDS = 14 * 24 * 3600


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
    A finished build deletes the entries of this name that were not asked for in UNUSED_SECONDS.
    """
    entry = cache_entry(parent, name, digest)
    if not entry.is_dir():
        with locked(parent / f".{name}.lock", name):
            if not entry.is_dir():  # nobody else has built it while we waited
                unfinished = parent / f".{name}.unfinished"
                if unfinished.exists():
                    shutil.rmtree(unfinished)
                unfinished.mkdir(parents=True)
                build(unfinished)
                unfinished.rename(entry)
                _delete_unused(parent, name, before=time.time() - UNUSED_SECONDS)
    os.utime(entry)
    return entry


def _delete_unused(parent: Path, name: str, before: float) -> None:
    # `standin-…` is not `standin-tree-…`.
    ours = re.compile(re.escape(name) + r"-[0-9a-f]{16}")
    for entry in parent.iterdir():
        if ours.fullmatch(entry.name) and entry.stat().st_mtime < before:
            say(f"deleting {entry.name} from the cache: unused for {UNUSED_SECONDS // 86400} days")
            # By one rename first: a deletion that is interrupted must not leave half an entry under its name.
            doomed = parent / f".{name}.unfinished"
            entry.rename(doomed)
            shutil.rmtree(doomed)
