"""Exchanging what is live on the data volume for what was restored, so that a power cut leaves the one or the other.

A journal on the volume says that an exchange has begun; it is written and synced before anything moves, and goes when
the servers have started with what was restored. Where a boot finds one, the old data comes back, whole, before either
server starts: it is known to start, and the backup is still there to be restored again.

Everything is one rename below /data, which only root writes to, by descriptors of folders that are no links.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import WARNING, HostError, log, sync_folder, write_whole

JOURNAL = ".zmanim-swap.json"
FORMAT = 1
# Where a restore makes what takes the place of the live data, and which folders that is.
RESTORE = "restore"
FOLDERS = ("postgres", "redis")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Swap:
    """An exchange: the run that was restored, and which folders there were before it."""

    run: str
    had: tuple[str, ...]

    @property
    def before(self) -> str:
        """The folder that has the old data."""
        return f"before-{self.run}"


def check_run(run: str) -> str:
    """Return a run's id; HostError for one that can be no part of a folder's name."""
    if not _RUN.fullmatch(run):
        raise HostError(f"{run!r} is no id of a run")
    return run


def begin(data: Path, run: str) -> Swap:
    """Write down that the live folders give way to those of a restored run. Nothing has moved yet."""
    with _folder(data) as top:
        swap = Swap(check_run(run), tuple(name for name in FOLDERS if _is_folder(name, top)))
    write_whole(data / JOURNAL, json.dumps({"format": FORMAT, "run": swap.run, "had": swap.had}), mode=0o600)
    sync_folder(data)
    return swap


def forward(data: Path, swap: Swap) -> None:
    """Move the live folders away and the restored ones into their places. Raises OSError."""
    (data / swap.before).mkdir(mode=0o700)
    with _folders(data, swap.before, RESTORE) as (top, before, new):
        for name in FOLDERS:
            if name in swap.had:
                os.rename(name, name, src_dir_fd=top, dst_dir_fd=before)
            os.rename(name, name, src_dir_fd=new, dst_dir_fd=top)
        _sync(before, new, top)


def back(data: Path, swap: Swap) -> None:
    """Put everything back where it was before `begin`, from wherever the exchange has come to, and forget it."""
    if (data / swap.before).is_dir() and (data / RESTORE).is_dir():
        with _folders(data, swap.before, RESTORE) as (top, before, new):
            for name in FOLDERS:
                moved = _is_folder(name, before)
                if (moved or name not in swap.had) and _is_folder(name, top) and not _is_folder(name, new):
                    os.rename(name, name, src_dir_fd=top, dst_dir_fd=new)
                if moved:
                    os.rename(name, name, src_dir_fd=before, dst_dir_fd=top)
            _sync(before, new, top)
        (data / swap.before).rmdir()
    elif (data / swap.before).is_dir():
        # Nothing of it has moved: that needs both.
        (data / swap.before).rmdir()
    end(data)


def end(data: Path) -> None:
    """Forget the exchange: what is in place now stays."""
    sync_folder(data)
    (data / JOURNAL).unlink()
    sync_folder(data)


def recover(data: Path) -> None:
    """Undo an exchange that was cut short, and remove what a restore has left. HostError when that can't be done."""
    journal = data / JOURNAL
    (data / f".{JOURNAL}.unfinished").unlink(missing_ok=True)
    if journal.exists():
        swap = read(journal)
        back(data, swap)
        log(
            f"the exchange of this volume's data for run {swap.run} was cut short: the data from before it is back, and"
            f" nothing of that run is in use. To restore it, again: restore.sh --run {swap.run} --replace --yes",
            WARNING,
        )
    if (data / RESTORE).is_dir():
        shutil.rmtree(data / RESTORE)


def read(journal: Path) -> Swap:
    """Return the exchange that a journal tells of; HostError when it can't be understood."""
    descriptor = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        with os.fdopen(descriptor, encoding="utf-8") as file:
            values = json.load(file)
        if values["format"] != FORMAT or not set(values["had"]) <= set(FOLDERS):
            raise ValueError(values["format"])
        return Swap(check_run(values["run"]), tuple(values["had"]))
    except (ValueError, KeyError, TypeError):
        raise HostError(f"{journal} can't be understood: this volume is not touched") from None


@contextmanager
def _folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _folders(data: Path, before: str, new: str) -> Iterator[tuple[int, int, int]]:
    with ExitStack() as stack:
        top, old, made = (stack.enter_context(_folder(path)) for path in (data, data / before, data / new))
        yield top, old, made


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _sync(*folders: int) -> None:
    for folder in folders:
        os.fsync(folder)
