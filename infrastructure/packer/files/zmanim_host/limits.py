"""What a restore beside the live servers may take, room and time, and that it ends when that is used up."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from zmanim_host.host import HostError, log

# What the live PostgreSQL and Redis keep at least, in bytes; of a large volume a twentieth when a restore begins.
MARGIN = 96 << 20


class PutOff(HostError):
    """What can't be done now, and is no failure for a proof: there is no room, or no time."""


class TimeUp(BaseException):
    """The time is up. No HostError and no Exception: whoever tries again, or goes on without a part, must not do so."""


class Usage(Protocol):
    """What is known of a volume's room, in bytes."""

    @property
    def total(self) -> int:
        """How much there is."""

    @property
    def free(self) -> int:
        """How much of it is free."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise PutOff when the body of the `with` takes longer; by a signal, so that whatever waits is ended."""

    def end(_number: int, _frame: object) -> None:
        raise TimeUp

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    except TimeUp:
        raise PutOff(f"it is not done after {seconds} s (BACKUP_PROOF_SECONDS in /etc/restic/backup.conf)") from None
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def check_room(needed: int, directory: Path, usage: Callable[[Path], Usage] = shutil.disk_usage) -> None:
    """Raise PutOff unless there are `needed` bytes for a directory, and what the live servers may need meanwhile."""
    place = next(path for path in (directory, *directory.parents) if path.exists())
    volume = usage(place)
    margin = max(MARGIN, volume.total // 20)
    if volume.free < needed + margin:
        raise PutOff(
            f"{place} has {volume.free >> 20} MiB free, and {needed >> 20} MiB may be needed beside what is there, with"
            f" {margin >> 20} MiB left to the servers: grow it, or restore elsewhere (--into-scratch)"
        )


@contextmanager
def room_kept(
    directory: Path,
    end: Callable[[], None],
    usage: Callable[[Path], Usage] = shutil.disk_usage,
    pause: float = 2,
) -> Iterator[None]:
    """Look every `pause` seconds whether a directory's volume has MARGIN free; if not, `end` what the `with` runs.

    What a record says of its size may be forged, and an index or a trigger may write more than that. PutOff then.
    """
    done, short = threading.Event(), threading.Event()

    def watch() -> None:
        while not done.wait(pause):
            if usage(directory).free < MARGIN:
                short.set()
                try:
                    end()
                except HostError as error:
                    log(str(error))
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    failure: HostError | None = None
    try:
        yield
    except HostError as error:
        failure = error
    finally:
        done.set()
        watching.join()
    if short.is_set():
        raise PutOff(
            f"what was restored into {directory} took more than it should, and was ended: less than {MARGIN >> 20} MiB"
            " were left to the servers"
        ) from failure
    if failure:
        raise failure
