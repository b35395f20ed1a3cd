"""Children stop when we stop, however we stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.errors import HostLacks
from support.process import CommandFailed, run
from tests.support import ROOT

# A child that writes down the signals it gets and ends half a second after the first one.
COUNTING_CHILD = """
import signal, sys, time, pathlib
counts = pathlib.Path(sys.argv[1])
seen = []
def note(number, _):
    seen.append(signal.Signals(number).name)
    counts.write_text(" ".join(seen))
signal.signal(signal.SIGINT, note)
signal.signal(signal.SIGTERM, note)
counts.write_text("ready")
while not seen:
    time.sleep(0.02)
time.sleep(0.5)
"""

PARENT = """
import sys
from support.process import interrupt_on_termination, run
interrupt_on_termination()
try:
    run([sys.executable, "-c", sys.argv[1], sys.argv[2]])
except KeyboardInterrupt:
    sys.exit(130)
"""


def _parent_with_child(counts: Path) -> subprocess.Popen[bytes]:
    parent = subprocess.Popen([sys.executable, "-c", PARENT, COUNTING_CHILD, str(counts)], cwd=ROOT)
    _wait(lambda: counts.exists() and counts.read_text() == "ready")
    return parent


def _wait(condition: object, seconds: float = 10) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_child_gets_exactly_one_sigint_when_we_are_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    counts = tmp_path / "counts"
    parent = _parent_with_child(counts)
    parent.send_signal(number)
    assert parent.wait(10) == 130
    assert counts.read_text() == "SIGINT"


# Told to stop when the child is there and Popen has not returned yet, as it happens on a busy machine.
EARLY_PARENT = """
import os, pathlib, signal, subprocess, sys, time
from support.process import interrupt_on_termination, run
interrupt_on_termination()
start = subprocess.Popen
def slow(*arguments, **options):
    child = start(*arguments, **options)
    counts = pathlib.Path(sys.argv[2])
    while not (counts.exists() and counts.read_text() == "ready"):
        time.sleep(0.02)
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.1)
    return child
subprocess.Popen = slow
try:
    run([sys.executable, "-c", sys.argv[1], sys.argv[2]])
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_a_child_that_is_just_being_started_gets_its_sigint_too(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    parent = subprocess.Popen([sys.executable, "-c", EARLY_PARENT, COUNTING_CHILD, str(counts)], cwd=ROOT)
    assert parent.wait(20) == 130
    assert counts.read_text() == "SIGINT"


def test_a_child_gets_one_sigterm_and_nothing_else_when_we_are_killed_outright(tmp_path: Path) -> None:
    counts = tmp_path / "counts"
    parent = _parent_with_child(counts)
    parent.kill()
    parent.wait(10)
    _wait(lambda: counts.read_text() == "SIGTERM")
    time.sleep(0.2)
    assert counts.read_text() == "SIGTERM"


TALKING_CHILD = """
import pathlib, signal, sys, time
def clean(*_):
    for word in range(20):
        print("cleaning", word, flush=True)
        time.sleep(0.02)
    pathlib.Path(sys.argv[1]).write_text("cleaned")
    sys.exit(1)
signal.signal(signal.SIGTERM, clean)
pathlib.Path(sys.argv[1]).write_text("ready")
time.sleep(30)
"""

FOLLOWING_PARENT = """
import sys
from support.process import run
run([sys.executable, "-c", sys.argv[1], sys.argv[2]], on_line=print)
"""


def test_a_child_whose_output_is_followed_can_still_talk_and_clean_up_when_we_are_killed_outright(
    tmp_path: Path,
) -> None:
    """Packer says what it deletes: with a broken pipe it died of its first word and left its security group behind."""
    state = tmp_path / "state"
    command = [sys.executable, "-c", FOLLOWING_PARENT, TALKING_CHILD, str(state)]
    parent = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)
    _wait(lambda: state.exists() and state.read_text() == "ready")
    parent.kill()
    parent.wait(10)
    _wait(lambda: state.read_text() == "cleaned")


def test_lines_are_handed_over_whole_while_the_child_still_runs() -> None:
    seen: list[tuple[float, str]] = []
    run(
        ["sh", "-c", "printf 'one\\ntw'; sleep 0.5; printf 'o\\303'; sleep 0.3; printf '\\244\\nend'"],
        on_line=lambda line: seen.append((time.monotonic(), line)),
    )
    assert [line for _, line in seen] == ["one", "twoä", "end"]
    assert seen[1][0] - seen[0][0] > 0.4


def test_what_goes_wrong_while_a_line_is_handed_over_is_raised() -> None:
    def fail(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="word"):
        run(["echo", "word"], on_line=fail)


def test_a_failure_says_the_command_its_exit_code_and_its_last_lines() -> None:
    with pytest.raises(CommandFailed) as caught:
        run(["sh", "-c", "echo seen on stdout; echo seen on stderr >&2; exit 7"])
    assert caught.value.returncode == 7
    assert "exit code 7" in str(caught.value)
    assert "seen on stdout" in str(caught.value)
    assert "seen on stderr" in str(caught.value)


def test_a_program_that_is_not_there_is_a_lack_of_this_host() -> None:
    with pytest.raises(HostLacks, match="no-such-program"):
        run(["no-such-program"])


def test_lines_are_handed_over_as_they_appear_and_stderr_is_among_them() -> None:
    seen: list[str] = []
    run(["sh", "-c", "echo one; echo two >&2"], on_line=seen.append)
    assert seen == ["one", "two"]


def test_a_child_has_no_terminal_to_ask_on() -> None:
    assert run(["cat"]).stdout == ""
    assert run(["cat"], input="told").stdout == "told"


def test_a_timeout_ends_the_whole_group_of_a_child(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    with pytest.raises(subprocess.TimeoutExpired):
        run(["sh", "-c", f"sleep 60 & echo $! > {pid}; wait"], timeout=0.5)
    _wait(lambda: not _alive(int(pid.read_text())))


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return "zombie" not in Path(f"/proc/{pid}/status").read_text()
