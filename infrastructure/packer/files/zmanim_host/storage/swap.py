"""Exchanging what is live on the data volume for what was restored, so that a power cut leaves the one or the other.

A journal on the volume says that an exchange has begun; it is written and synced before anything moves. Once the
servers have started with what was restored it says that this is decided, and then it goes. Where a boot finds one,
before either server starts:

- not decided: the old data comes back, whole. It is known to start, and the backup is still there to be restored again
- decided: what was restored stays

Nothing that has been in a live place is ever removed here: who was killed can't say whether anybody has written to it.
While there is a journal the API does not start (zmanim-api.service, zmanim-migrate.service), and no backup, restore,
drill or proof begins.

Everything is one rename below /data, which only root writes to, by descriptors of folders that are no links.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import count
from pathlib import Path

from zmanim_host.host import ERROR, WARNING, HostError, log, open_folder, sync_folder, write_whole

JOURNAL = ".zmanim-swap.json"
# 1 was of images that did not write down that an exchange is decided, and took it back.
FORMAT = 2
# Where a restore makes what takes the place of the live data, and which folders that is.
RESTORE = "restore"
FOLDERS = ("postgres", "redis")
_RUN = re.compile(r"[A-Za-z0-9][A-Za-z0-9-]{0,63}", re.ASCII)


@dataclass(frozen=True)
class Swap:
    """An exchange: the run that was restored, which folders there were before it, and whether it is decided."""

    run: str
    had: tuple[str, ...]
    decided: bool = False

    @property
    def before(self) -> str:
        """The folder that has the old data."""
        return before(self.run)


def before(run: str) -> str:
    """Return the name of the folder that keeps what a restored run has taken the place of."""
    return f"before-{check_run(run)}"


def check_run(run: str) -> str:
    """Return a run's id; HostError for one that can be no part of a folder's name."""
    if not _RUN.fullmatch(run):
        raise HostError(f"{run!r} is no id of a run")
    return run


def begin(data: Path, run: str) -> Swap:
    """Write down that the live folders give way to those of a restored run. Nothing has moved yet."""
    with open_folder(data) as top:
        swap = Swap(check_run(run), tuple(name for name in FOLDERS if _is_folder(name, top)))
    _write(data, swap)
    return swap


def decide(data: Path, swap: Swap) -> None:
    """Write down that what is in place now stays, whatever comes: from here on somebody may write to it."""
    _write(data, replace(swap, decided=True))


def _write(data: Path, swap: Swap) -> None:
    sync_folder(data)
    write_whole(data / JOURNAL, json.dumps({"format": FORMAT, **asdict(swap)}))
    sync_folder(data)


def forward(data: Path, swap: Swap) -> None:
    """Move the live folders away and the restored ones into their places. Raises OSError."""
    (data / swap.before).mkdir(mode=0o700)
    with _folders(data, swap.before, RESTORE) as (top, old, new):
        for name in FOLDERS:
            if name in swap.had:
                os.rename(name, name, src_dir_fd=top, dst_dir_fd=old)
            os.rename(name, name, src_dir_fd=new, dst_dir_fd=top)
        _sync(old, new, top)


def back(data: Path, swap: Swap, aside: str = RESTORE) -> list[str]:
    """Put everything back where it was before `begin`, from wherever the exchange has come to.

    What has taken its place goes into the folder `aside`. Returns what is missing: a live folder that was there and is
    nowhere now.
    """
    missing = []
    if unfinished(data) != swap:
        _write(data, swap)  # it was about to be decided, and half of each must not be what stays
    for name in (swap.before, RESTORE, aside):
        (data / name).mkdir(mode=0o700, exist_ok=True)
    with _folders(data, swap.before, RESTORE, aside) as (top, old, new, put):
        for name in FOLDERS:
            moved = _is_folder(name, old)
            replaced = moved or (name not in swap.had and not _is_folder(name, new))
            if replaced and _is_folder(name, top):
                os.rename(name, name, src_dir_fd=top, dst_dir_fd=put)
            if moved:
                os.rename(name, name, src_dir_fd=old, dst_dir_fd=top)
            elif name in swap.had and not _is_folder(name, top):
                missing.append(name)
        _sync(put, old, new, top)
    with suppress(OSError):
        # A person may have put something there.
        (data / swap.before).rmdir()
    return missing


def end(data: Path) -> None:
    """Forget the exchange: what is in place now stays."""
    sync_folder(data)
    (data / JOURNAL).unlink()
    sync_folder(data)


def recover(data: Path) -> None:
    """Finish or undo an exchange that was cut short, say so, and remove what a restore has left that was never used.

    Where something is missing that says so too, and leaves the journal and the rest to a person; a boot goes on. Raises
    HostError for a journal that can't be understood.
    """
    (data / f".{JOURNAL}.unfinished").unlink(missing_ok=True)
    swap = unfinished(data)
    if swap and not _finish(data, swap):
        return
    if (data / RESTORE).is_dir():
        shutil.rmtree(data / RESTORE)


def _finish(data: Path, swap: Swap) -> bool:
    about = f"the exchange of this volume's data for run {swap.run} was cut short"
    if swap.decided:
        end(data)
        log(f"{about} when it was done: that run stays in use, and the data before it in {data / swap.before}", WARNING)
        return True
    aside = _free_name(data, f"undone-{swap.run}")
    missing = back(data, swap, aside)
    with suppress(OSError):
        (data / aside).rmdir()
    for name in missing:
        log(
            f"{about}, and {data / name} is not there, and not in {data / swap.before} either: look for it. What was"
            f" restored may be in {data / RESTORE}. Put the right one there, remove {data / JOURNAL}, and restart this"
            " machine: until then the API does not start",
            ERROR,
        )
    if missing:
        return False
    end(data)
    kept = ", ".join(str(path) for path in sorted(data.glob(f"undone-{swap.run}*")))
    kept = f" What had taken its place is kept in {kept}; remove that when nobody needs it." if kept else ""
    log(
        f"{about}: the data from before it is back.{kept} To restore that run, again: restore.sh --run {swap.run}"
        " --replace --yes",
        WARNING,
    )
    return True


def _free_name(data: Path, name: str) -> str:
    names = (name if number == 1 else f"{name}-{number}" for number in count(1))
    return next(free for free in names if not (data / free).exists() or not any((data / free).iterdir()))


def unfinished(data: Path) -> Swap | None:
    """Return the exchange that a journal tells of, if there is one; HostError when it can't be understood."""
    journal = data / JOURNAL
    try:
        descriptor = os.open(journal, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError:
        return None
    try:
        with os.fdopen(descriptor, encoding="utf-8") as file:
            values = json.load(file)
        known = values["format"] == 1 or (values["format"] == FORMAT and isinstance(values["decided"], bool))
        if not known or not set(values["had"]) <= set(FOLDERS):
            raise ValueError(values["format"])
        return Swap(check_run(values["run"]), tuple(values["had"]), values["format"] == FORMAT and values["decided"])
    except (ValueError, KeyError, TypeError):
        raise HostError(f"{journal} can't be understood: this volume is not touched") from None


def check_none(data: Path) -> None:
    """Raise HostError, with what to do, while an exchange is under way or was cut short."""
    swap = unfinished(data)
    if swap:
        then = "what was restored stays in use" if swap.decided else "that puts the data from before it back"
        raise HostError(
            f"the exchange of this volume's data for run {swap.run} was cut short: nothing else is done before it is"
            f" finished ({data / JOURNAL}). Restart this machine: {then}"
        )


@contextmanager
def _folders(data: Path, *names: str) -> Iterator[tuple[int, ...]]:
    with ExitStack() as stack:
        yield tuple(stack.enter_context(open_folder(path)) for path in (data, *(data / name for name in names)))


def _is_folder(name: str, folder: int) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except FileNotFoundError:
        return False


def _sync(*folders: int) -> None:
    for folder in folders:
        os.fsync(folder)
