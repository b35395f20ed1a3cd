"""A pytest plugin: with -v each test's line has its seconds, and a test that takes long is named once a minute.

A log that says nothing for twenty minutes looks like one of a session that hangs.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

_MINUTE = 60.0


@dataclass
class Watch:
    """Which tests run and how many are over. `say` is given a line each minute in which no test began or ended."""

    say: Callable[[str], None]
    total: Callable[[], int] = lambda: 0
    clock: Callable[[], float] = time.monotonic
    running: dict[str, float] = field(default_factory=dict)
    done: int = 0

    def __post_init__(self) -> None:
        self.start = self.last = self.clock()

    @pytest.hookimpl
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Note that a test has begun."""
        self.running[nodeid] = self.last = self.clock()

    @pytest.hookimpl
    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Note that a test is over."""
        self.running.pop(nodeid, None)
        self.done += 1
        self.last = self.clock()

    def look(self) -> None:
        """Say where the session is, unless something else was said within the last minute."""
        now = self.clock()
        if not self.running or now - self.last < _MINUTE:
            return
        self.last = now
        of = f" of {total}" if (total := self.total()) else ""
        tests = ", ".join(f"{name} ({_minutes(now - since)})" for name, since in self.running.items())
        self.say(f"{self.done}{of} tests done after {_minutes(now - self.start)}; running: {tests}")


def _minutes(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02} min"


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to watch, where a person or a log sees each test's line."""
    config = session.config
    if config.get_verbosity() < 1 or hasattr(config, "workerinput"):
        return
    # What is printed while a test runs belongs to that test: this goes to where the terminal's lines go.
    capturing: Any = config.pluginmanager.get_plugin("capturemanager")
    with capturing.global_and_fixture_disabled():
        out = os.fdopen(os.dup(1), "w", buffering=1)
    config.add_cleanup(out.close)
    watch = Watch(lambda line: print(f"\n{line}", file=out), lambda: session.testscollected)
    config.pluginmanager.register(watch)
    over = threading.Event()

    def each_second() -> None:
        while not over.wait(1):
            watch.look()

    looking = threading.Thread(target=each_second, daemon=True)

    def end() -> None:
        over.set()
        looking.join()

    config.add_cleanup(end)
    looking.start()


def pytest_report_teststatus(
    report: pytest.CollectReport | pytest.TestReport, config: pytest.Config
) -> tuple[str, str, str] | None:
    """With -v, give a finished test's line its seconds."""
    finished = isinstance(report, pytest.TestReport) and report.when == "call" and not report.skipped
    if not finished or config.get_verbosity() < 1:
        return None
    return report.outcome, "." if report.passed else "F", f"{report.outcome.upper()} ({report.duration:.1f} s)"
