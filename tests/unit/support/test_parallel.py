"""Work side by side ends together."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from support.parallel import side_by_side
from support.process import CommandFailed, run
from tests.support import ROOT

INTERRUPTED = """
import sys
from support.parallel import side_by_side
from support.process import interrupt_on_termination, run
interrupt_on_termination()
print("started", flush=True)
try:
    side_by_side([lambda: run(["sleep", "60"]), lambda: run(["sleep", "60"])])
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_results_come_in_the_order_of_the_work() -> None:
    def slow() -> str:
        time.sleep(0.1)
        return "slow"

    assert side_by_side([slow, lambda: "quick"]) == ["slow", "quick"]


def test_a_failure_stops_what_runs_beside_it() -> None:
    start = time.monotonic()
    with pytest.raises(CommandFailed, match="exit code 5"):
        side_by_side([lambda: run(["sleep", "60"]), lambda: run(["sh", "-c", "exit 5"])])
    assert time.monotonic() - start < 30  # half of what waiting for the other would take


def _fail() -> None:
    run(["sh", "-c", "exit 5"])


def test_a_child_that_is_started_after_the_failure_is_stopped_too() -> None:
    def sleep_again_and_again() -> None:
        for _ in range(100):
            run(["sleep", "60"], check=False)  # goes on after the first one was stopped, as a sloppy caller would
            if time.monotonic() - start > 2:
                return

    start = time.monotonic()
    with pytest.raises(CommandFailed, match="exit code 5"):
        side_by_side([sleep_again_and_again, _fail])
    assert time.monotonic() - start < 30


def test_an_interrupt_stops_all_that_runs_side_by_side() -> None:
    parent = subprocess.Popen([sys.executable, "-c", INTERRUPTED], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent:
        assert parent.stdout.readline() == b"started\n"
        time.sleep(0.3)
        parent.send_signal(signal.SIGTERM)
        assert parent.wait(20) == 130
