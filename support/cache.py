"""Things that are slow to build, kept by the digest of what they were built from.

A finished entry appears by one rename, under a lock: an interrupted build is never taken for a finished one, and two
builders of the same entry do the work once. What is in use is held by a shared lock on its directory, and goes for
nobody: the kernel drops that lock with its holder, and nothing of it is left on the disk.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from support.progress import say

# An entry of the same name that nobody asked for in this time is deleted when a new one is finished. Not at once: two
# clones may take turns.
UNUSED_SECONDS = 14 * 24 * 3600
# What is on its way out of a cache, until it is gone: nobody's entry any more.
_GOING = ".going-"
# What this process holds until it ends, each with its open descriptor.
_held: dict[Path, int] = {}
_holding = threading.Lock()


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


def hold(directory: Path) -> bool:
    """Keep `directory` from being taken away until this process ends; False where it is not there.

    Not for the children of this process: each of them holds what it asks for itself.
    """
    with _holding:
        handle = _held.pop(directory, None)
        if handle is not None and not _is_at(directory, handle):  # somebody has deleted it by hand
            os.close(handle)
            handle = None
        handle = handle if handle is not None else _shared(directory)
        if handle is not None:
            _held[directory] = handle
        return handle is not None


@contextmanager
def holding(directory: Path) -> Iterator[None]:
    """Keep `directory`, made where it is not there, from being taken away for the body of a `with`."""
    handle = None
    while handle is None:
        directory.mkdir(parents=True, exist_ok=True)
        handle = _shared(directory)
    try:
        with suppress(PermissionError):  # another user's
            os.utime(directory)
        yield
    finally:
        os.close(handle)


@contextmanager
def alone_in(directory: Path) -> Iterator[bool]:
    """Keep everybody else from `directory` for the body of a `with`; give False where it is held, or is not there."""
    try:
        handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        yield False
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            alone = _is_at(directory, handle)
        except OSError:  # held; or a file system without such locks, where nobody can tell
            alone = False
        yield alone
    finally:
        os.close(handle)


def is_held(directory: Path) -> bool:
    """Tell whether some process, this one too, keeps `directory` from being taken away."""
    with alone_in(directory) as alone:
        return not alone


def take_away(directory: Path) -> bool:
    """Delete `directory`, unless somebody holds it; return whether it has gone.

    By one rename first: a deletion that is cut short must not leave half an entry under its name.
    """
    going = directory.with_name(f"{_GOING}{directory.name}-{secrets.token_hex(4)}")
    with alone_in(directory) as alone:
        if alone:
            directory.rename(going)
    _delete(going)
    return alone


def delete_leftovers(parent: Path) -> None:
    """Delete what deletions and builds in `parent` that were cut short have left."""
    for path in parent.glob(f"{_GOING}*"):
        _delete(path)
    for path in parent.glob(".*.unfinished"):
        # It is being built where this fails, or is another user's.
        with suppress(OSError), path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            take_away(path)


def cache_entry(parent: Path, name: str, digest: str) -> Path:
    """Return where `cached_directory` keeps a result: a directory that exists only once it is finished."""
    return parent / f"{name}-{digest[:16]}"


def entry_of(path: Path) -> Path | None:
    """Return the entry of a cache that `path` is, or lies in; None where it is no part of one."""
    return next((each for each in (path, *path.parents) if re.fullmatch(r".+-[0-9a-f]{16}", each.name)), None)


def cached_directory(parent: Path, name: str, digest: str, build: Callable[[Path], None]) -> Path:
    """Return `parent/name-digest`, calling `build(empty directory)` first when it is not there yet.

    `digest` must cover everything the result depends on. What `build` raises is raised again and leaves no entry. The
    result is held until this process ends. A finished build deletes the entries of this name that were not asked for in
    UNUSED_SECONDS.
    """
    entry = cache_entry(parent, name, digest)
    while not hold(entry):  # again where it was taken away as soon as it was there
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
        if ours.fullmatch(entry.name) and _used_last(entry) < before and take_away(entry):
            say(f"deleted {entry.name} from the cache: unused for {UNUSED_SECONDS // 86400} days")


def _used_last(entry: Path) -> float:
    try:
        return entry.stat().st_mtime
    except FileNotFoundError:  # another process has just taken it away
        return time.time()


def _shared(directory: Path) -> int | None:
    """Return a descriptor with a shared lock on `directory`, None where that is not there."""
    while True:
        try:
            handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_SH)
            if _is_at(directory, handle):
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # it was taken away while we waited


def _is_at(directory: Path, handle: int) -> bool:
    try:
        return os.path.samestat(directory.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False


def _delete(path: Path) -> None:
    # What can't be deleted (another user's) stays for who can; what another process deletes as well is gone.
    shutil.rmtree(path, ignore_errors=True)
