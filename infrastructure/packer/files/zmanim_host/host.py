"""What the commands share: errors, fixed paths, files written whole, programs run with a time limit."""

from __future__ import annotations

import fcntl
import hashlib
import os
import pwd
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

RUN = Path("/run/zmanim")
# The journal's priority of what somebody has to look at, and of what they will want to know (syslog's numbers).
ERROR = 3
WARNING = 4
NOTICE = 5

# What a program that answers at once may take, in seconds: it is there to end one that hangs. A first boot reads every
# program from a disk where nothing was read yet; on AWS that is a volume whose blocks come one by one from a snapshot.
ANSWER_SECONDS = 30.0

Result = TypeVar("Result")


class HostError(Exception):
    """A foreseeable reason why this machine can't go on; its text tells an operator what is wrong and what to do.

    The text goes into the journal and onto the console: it never holds a secret's value.
    """


class NotYet(HostError):
    """What may come right by itself within seconds: `retry` tries again."""


def log(message: str, priority: int | None = None) -> None:
    """Write to the journal, with a priority of syslog's if given; on a terminal, without it."""
    # What systemd takes off again; every line needs its own.
    prefix = f"<{priority}>" if priority is not None and "JOURNAL_STREAM" in os.environ else ""
    print("\n".join(prefix + line for line in message.splitlines()), file=sys.stderr, flush=True)


def write_console(text: str) -> None:
    """Write to the console; that one can't be written is logged, and no error."""
    try:
        with open("/dev/console", "w", encoding="ascii") as console:
            console.write(text)
    except OSError as error:
        log(f"the console can't be written: {error}")


def write_whole(path: Path, content: str | bytes, *, mode: int = 0o644) -> None:
    """Write `content` to `path` so that a reader sees the old file or the new one, never a part.

    `mode` is set before anything is written: a secret is never readable by more users than it will be.
    Raises OSError.
    """
    unfinished = path.with_name(f".{path.name}.unfinished")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(content.encode("utf-8") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        # What a full disk cut short takes no room.
        unfinished.unlink(missing_ok=True)


def open_plain(folder: Path, name: str) -> IO[bytes]:
    """Open a file that a lesser user may have made: a regular file of that user, reached without following a link.

    `folder` is what root made for that user, and its owner says who that is. `name` is a path below it. A link may lead
    to any file, and root would print or believe it; a pipe would keep us waiting. A file with two names may be another
    user's (where the kernel does not forbid such links).

    Raises HostError for anything else, FileNotFoundError when there is none.
    """
    path = folder / name
    *folders, last = Path(name).parts
    flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW
    with ExitStack() as opened:
        try:
            place = os.open(folder, flags)
            opened.callback(os.close, place)
            owner = os.fstat(place).st_uid
            for each in folders:
                place = os.open(each, flags, dir_fd=place)
                opened.callback(os.close, place)
            descriptor = os.open(last, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=place)
        except FileNotFoundError:
            raise
        except OSError as error:
            # A link is ELOOP, or ENOTDIR where a folder has to be; a socket is ENXIO.
            raise HostError(
                f"{path} is not read: it is no plain file without links on the way ({error.strerror})"
            ) from error
    if is_plain(os.fstat(descriptor), owner):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise HostError(f"{path} is not a plain file of the user whose folder this is: it is not read")


def is_plain(status: os.stat_result, owner: int) -> bool:
    """Return whether this is a regular file of this user with no second name."""
    return stat.S_ISREG(status.st_mode) and status.st_uid == owner and status.st_nlink <= 1


def read_plain(folder: Path, name: str, limit: int) -> bytes | None:
    """Return what is in such a file, None when there is none; HostError when it has more than `limit` bytes, too."""
    try:
        with open_plain(folder, name) as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        return None
    if len(content) > limit:
        raise HostError(f"{folder / name} has more than {limit} bytes")
    return content


def sha256(stream: IO[bytes]) -> str:
    """Return the SHA-256 of what is left in a stream."""
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


@contextmanager
def open_folder(path: Path) -> Iterator[int]:
    """Yield a descriptor of a folder that is no link. Raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def locked(folder: Path, *, wait: bool = True) -> Iterator[None]:
    """Hold the one lock of a folder; without `wait`, BlockingIOError when somebody else holds it.

    The folder itself, not a file in it: a file would belong to whoever was the first, root or a lesser user.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        yield
    finally:
        os.close(descriptor)


def required_variables(environ: Mapping[str, str], *names: str) -> list[str]:
    """Return the values of environment variables, none of them empty; HostError names what is missing."""
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise HostError(f"the environment variables {', '.join(missing)} are missing")
    return [environ[name] for name in names]


@dataclass(frozen=True)
class Clock:
    """The time that passes, in seconds, and waiting for it to."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


CLOCK = Clock()


def retry(attempt: Callable[[], Result], *, seconds: float, pause: float, clock: Clock = CLOCK) -> Result:
    """Return what `attempt` returns; while it raises NotYet, try again every `pause` seconds, for `seconds` in all."""
    deadline = clock.now() + seconds
    while True:
        try:
            return attempt()
        except NotYet:
            if clock.now() >= deadline:
                raise
        clock.sleep(pause)


class StderrReader:
    """A pipe for a program's standard error: `on_line` gets each line as it is written, and all of it is kept.

    What is only read at a program's end is lost with a reader that is killed before.
    """

    def __init__(self, on_line: Callable[[str], None]) -> None:
        self._on_line = on_line
        self._lines: list[str] = []
        reader, self.writer = os.pipe()
        self._thread = threading.Thread(target=self._read, args=(reader,), daemon=True)
        self._thread.start()

    def _read(self, reader: int) -> None:
        with os.fdopen(reader, encoding="utf-8", errors="replace") as stream:
            for line in stream:
                self._lines.append(line)
                self._on_line(line.rstrip("\n"))

    def close(self) -> str:
        """Return all that was written; the program has ended. What it left running may hold the pipe for a moment."""
        os.close(self.writer)
        self._thread.join(5)
        return "".join(self._lines)


def run(
    command: Sequence[str],
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
    user: str | None = None,
    input: str | None = None,
    may_exit: Sequence[int] = (0,),
    on_line: Callable[[str], None] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program, as `user` if given, and return what it wrote.

    `environment` is added to our own; `timeout` is in seconds. `on_line` gets each line of its standard error as it is
    written. A secret may be in `environment` or `input`, never in `command`: everybody on the machine can read that.

    Raises HostError when it can't be started, takes too long, or ends with a code that is not in `may_exit`.
    """
    name = command[0]
    reader = StderrReader(on_line) if on_line else None
    try:
        done = subprocess.run(
            list(command),
            env={**os.environ, **(environment or {})},
            user=user,
            group=user,
            extra_groups=[] if user else None,
            input=input,
            stdin=None if input is not None else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=reader.writer if reader else subprocess.PIPE,
            encoding="utf-8",
            # A program that quotes a damaged file must not be one more error.
            errors="replace",
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise HostError(f"{name}: no end after {timeout:.0f} s") from error
    except OSError as error:
        raise HostError(f"{name}: can't be started ({error.strerror})") from error
    finally:
        messages = reader.close() if reader else ""
    if reader:
        done.stderr = messages
    if done.returncode not in may_exit:
        raise HostError(f"{name}: exit code {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done


def own_folder(directory: Path, uid: int) -> Path:
    """Return where a user's notes are: `directory` itself for its owner, for others a folder below it."""
    try:
        owner = directory.stat().st_uid
    except FileNotFoundError:
        return directory
    return directory if owner == uid else directory / pwd.getpwuid(uid).pw_name


class ErrorNotes:
    """One note for each command that failed, for zmanim-ready to put on the console beside the unit's name.

    Root's are in the directory. A command that runs as another user leaves its note in that user's folder there: in
    root's it could keep a note of root's from being written.
    """

    LONGEST = 1 << 14  # bytes, of which a character takes up to four

    def __init__(self, directory: Path = RUN / "errors") -> None:
        self._directory = directory

    def put(self, command: str, text: str) -> None:
        """Remember why `command` failed; a directory that can't be written only costs the note."""
        try:
            self._directory.mkdir(mode=0o755, exist_ok=True)
            write_whole(self._own() / command, text[: self.LONGEST // 4])
        except OSError as error:
            log(f"the error can't be written down for zmanim-ready: {error}")

    def clear(self, command: str) -> None:
        """Forget an earlier failure of `command`."""
        try:
            (self._own() / command).unlink(missing_ok=True)
        except OSError as error:
            log(f"an earlier error can't be removed from what zmanim-ready reads: {error}")

    def all(self) -> dict[str, str]:
        """Return every note by its command, root's first; in the place of one that is none, why it is not read."""
        if not self._directory.is_dir():
            return {}
        others = (path for path in sorted(self._directory.iterdir()) if path.is_dir())
        read = [self._read(folder) for folder in (*others, self._directory)]
        return {name: text for notes in read for name, text in notes.items()}

    def _own(self) -> Path:
        return own_folder(self._directory, os.geteuid())

    def _read(self, folder: Path) -> dict[str, str]:
        notes: dict[str, str] = {}
        for name in sorted(path.name for path in folder.iterdir() if folder != self._directory or not path.is_dir()):
            try:
                note = read_plain(folder, name, self.LONGEST)
            except HostError as error:
                notes[name] = str(error)
            else:
                # None: its command has just succeeded.
                notes.update({} if note is None else {name: note.decode("utf-8", "replace")})
        return notes
