"""Child processes that stop when we are asked to stop.

Each child leads a process group of its own, so a terminal's Ctrl-C reaches only us and we forward exactly one SIGINT:
Packer exits at once on a second one and leaks its instance. When we are killed outright, the kernel sends the child a
SIGTERM in our place (setpriv --pdeathsig, where there is one), so that a build cleans up its account even then. Not a
SIGINT: the kernel signals the child alone, and Packer's outer process passes only a SIGTERM on to the one that builds.

Invoke's own `Context.run` was rejected: with stdin at end of file an interrupt ends in a ValueError, and SIGTERM skips
every `finally`.
"""

from __future__ import annotations

import codecs
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from support.errors import Error, HostLacks

# Long enough for Packer to delete its instance, key pair and security group after a SIGINT.
GRACE_SECONDS = 60.0

# Soon enough to look like at once, seldom enough to cost nothing.
_FOLLOW_SECONDS = 0.05

# Every child that `run` waits for at this moment, in whichever thread.
_running: set[subprocess.Popen[str]] = set()


class CommandFailed(Error):
    """A program that was started ended with an exit code other than 0."""

    def __init__(self, command: Sequence[str], returncode: int, output: str) -> None:
        tail = "\n".join(output.strip().splitlines()[-25:])
        super().__init__(
            f"{Path(command[0]).name} failed",
            expected="exit code 0",
            found=f"exit code {returncode} from: {' '.join(command)}" + (f"\n{tail}" if tail else ""),
        )
        self.returncode = returncode
        self.output = output


@dataclass(frozen=True)
class Completed:
    """A child that ended: its exit code and what it wrote (decoded as UTF-8, undecodable bytes replaced)."""

    returncode: int
    stdout: str
    stderr: str


def run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    input: str | None = None,
    timeout: float | None = None,
    check: bool = True,
    on_line: Callable[[str], None] | None = None,
    pass_stderr: bool = False,
) -> Completed:
    """Run a program to its end and return what it wrote.

    `timeout` is in seconds. With `on_line`, each line of its output (stdout and stderr together) is also handed over
    as it appears, and `stderr` of the result is empty; with `pass_stderr` the child writes to our own stderr instead.
    stdin is `input`, or at end of file.

    Raises CommandFailed on an exit code other than 0 (unless `check` is False), HostLacks when the program does not
    exist, subprocess.TimeoutExpired, and KeyboardInterrupt after the child has ended when we were interrupted.
    """
    _require(command[0], env)
    child: subprocess.Popen[str] | None = None
    with _followed(on_line) if on_line else nullcontext() as followed:
        try:
            with _interrupts_put_off():
                child = subprocess.Popen(
                    [*_interrupted_with_us(), *command],
                    cwd=cwd,
                    env=dict(env) if env is not None else None,
                    stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL,
                    stdout=followed.sink if followed else subprocess.PIPE,
                    stderr=subprocess.STDOUT if followed else None if pass_stderr else subprocess.PIPE,
                    start_new_session=True,
                    text=True,
                    errors="replace",
                )
                _running.add(child)
            stdout, stderr = child.communicate(input, timeout=timeout)
        except BaseException:
            if child is not None:
                stop(child)
            raise
        finally:
            if child is not None:
                _running.discard(child)
                for pipe in filter(None, (child.stdin, child.stdout, child.stderr)):
                    pipe.close()
    stdout, stderr = "".join(followed.lines) if followed else stdout, stderr or ""  # None when it was passed on
    if check and child.returncode != 0:
        raise CommandFailed(command, child.returncode, stdout + stderr)
    return Completed(child.returncode, stdout, stderr)


def _require(program: str, env: Mapping[str, str] | None) -> None:
    path = (os.environ if env is None else env).get("PATH", os.defpath)
    if shutil.which(program, path=path) is None:
        raise HostLacks(
            f"{program} is not on this host",
            expected=f"the program {program} on PATH",
            found="no such program",
            fix="./inv doctor lists what is missing and how to install it",
        )


def _interrupted_with_us() -> list[str]:
    # A program of util-linux, so absent on macOS, where a production build may be started too. preexec_fn with prctl(2)
    # was rejected: it is unsafe in a process with threads.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


@dataclass(frozen=True)
class _Followed:
    sink: IO[bytes]
    lines: list[str]


@contextmanager
def _followed(on_line: Callable[[str], None]) -> Iterator[_Followed]:
    """Give a file for a child to write to, and hand over each line of it until the body is left.

    A file and no pipe: when we are killed nobody reads a pipe any more, and a child that says what it cleans up then
    dies of its first word (run: Packer left its security group behind). The file has no name, so nothing is left of it.
    """
    ended = threading.Event()
    with tempfile.TemporaryFile() as sink, ThreadPoolExecutor(max_workers=1) as pool:
        followed = _Followed(sink, [])
        following = pool.submit(_follow, followed, ended, on_line)
        try:
            yield followed
        finally:
            ended.set()
        following.result()


def _follow(followed: _Followed, ended: threading.Event, on_line: Callable[[str], None]) -> None:
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    descriptor, offset, rest, last = followed.sink.fileno(), 0, "", False
    while not last:
        last = ended.wait(_FOLLOW_SECONDS)  # asked before reading, so that what came before the end is read
        # At an offset of our own: the child writes at the one that it shares with this file.
        content = os.pread(descriptor, os.fstat(descriptor).st_size - offset, offset)
        offset += len(content)
        *whole, rest = (rest + decoder.decode(content, final=last)).split("\n")
        for line in [*whole, rest] if last and rest else whole:
            followed.lines.append(f"{line}\n")
            on_line(line)


def stop_children_until(is_over: Callable[[], bool], grace: float = GRACE_SECONDS) -> None:
    """Stop what other threads wait for, until `is_over`: one SIGINT for each child, SIGKILL `grace` seconds later.

    Until then, because a thread may start its next child after we have looked.
    """
    signalled: set[subprocess.Popen[str]] = set()
    end = time.monotonic() + grace
    while not is_over():
        late = time.monotonic() > end
        for child in list(_running):
            if late or child not in signalled:
                _signal_group(child.pid, signal.SIGKILL if late else signal.SIGINT)
                signalled.add(child)
        time.sleep(_FOLLOW_SECONDS)


def stop(child: subprocess.Popen[str], grace: float = GRACE_SECONDS) -> None:
    """Ask a child's process group to stop with one SIGINT, wait `grace` seconds, then kill what is left of it."""
    if child.poll() is None:
        _signal_group(child.pid, signal.SIGINT)
    try:
        child.wait(grace)
    except subprocess.TimeoutExpired:
        pass
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _signal_group(leader: int, number: signal.Signals) -> None:
    try:
        os.killpg(leader, number)
    except ProcessLookupError:
        pass  # everybody in the group has ended already, which is what was wanted


@dataclass
class _Interrupts:
    """Whether they are put off at this moment, and whether one has come since."""

    put_off: bool = False
    came: bool = False


_interrupts = _Interrupts()


@contextmanager
def _interrupts_put_off() -> Iterator[None]:
    """Put an interrupt off until the body is left: within Popen, nobody would know the child yet that is to be stopped.

    Blocking the signals was rejected: the child would inherit that.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # handlers run in the main thread only
        return
    _interrupts.put_off = True
    try:
        yield
    finally:
        _interrupts.put_off = False
        if _interrupts.came:
            _interrupts.came = False
            raise KeyboardInterrupt


def interrupt_on_termination() -> None:
    """Make SIGTERM and SIGHUP raise KeyboardInterrupt, so that they clean up as Ctrl-C does.

    SIGINT too: a shell starts its background jobs with SIGINT ignored, and Python then leaves it so.
    """

    def interrupt(_number: int, _frame: object) -> None:
        if not _interrupts.put_off:
            raise KeyboardInterrupt
        _interrupts.came = True

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
