"""A plugin of pytest: what the tests with a fault's marker were seen to do, in build/faults/result.json.

Written after each test, so that a session that is interrupted leaves what it has seen; merged into what earlier ones
wrote. What a test has done last stands there, and what is no test any more goes. docs/quality.md has the form.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from support.errors import Error
from support.files import write_atomically
from zmanim_ami.gate.repository import fault_page
from zmanim_ami.pipeline.ami import provenance

RESULT = Path("build/faults/result.json")
SCHEMA = 1
# What only asks the code has the gate for its evidence.
_LEFT_OUT = "tests/unit/"
_PROPERTY = "faults"


def pytest_configure(config: pytest.Config) -> None:
    """Have one process of a session write: xdist's workers report to it."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Recorder(config.rootpath), "fault-results")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Give a marked test's reports its numbers: a worker's report is all that the session's process sees."""
    numbers = sorted({int(marker.args[0]) for marker in item.iter_markers("fault")})
    if numbers and not item.nodeid.startswith(_LEFT_OUT):
        item.user_properties.append((_PROPERTY, numbers))


class Recorder:
    """Writes down the marked tests of a session."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._commit: str | None = None
        self._seen: dict[str, dict[str, Any]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take one phase of a test: the last one, whatever came before, writes it down."""
        numbers = dict(report.user_properties).get(_PROPERTY)
        if not numbers:
            return
        seen = self._seen.setdefault(report.nodeid, {"outcome": "passed", "seconds": 0.0})
        if report.failed or (report.skipped and seen["outcome"] == "passed"):
            seen["outcome"] = report.outcome
        if report.when == "call":
            seen["seconds"] = round(report.duration, 3)
        if report.when == "teardown":
            at = datetime.now(UTC).isoformat(timespec="seconds")
            row = {"node": report.nodeid, "faults": numbers, **self._seen.pop(report.nodeid), "at": at}
            self._write(row)

    def _write(self, row: dict[str, Any]) -> None:
        if self._commit is None:
            self._commit = _commit(self._root)
        file = self._root / RESULT
        file.parent.mkdir(parents=True, exist_ok=True)
        # Two sessions may run side by side: neither loses what the other has seen.
        with open(file.with_name(".lock"), "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            rows = {each["node"]: each for each in _read(file) if _is_there(self._root, each["node"])}
            rows[row["node"]] = {**row, "commit": self._commit}
            write_atomically(file, _text(rows))


def _text(rows: Mapping[str, dict[str, Any]]) -> str:
    return json.dumps({"schema": SCHEMA, "tests": [rows[node] for node in sorted(rows)]}, indent=1) + "\n"


def _is_there(root: Path, node: str) -> bool:
    file, _, test = node.partition("[")[0].partition("::")
    return (root / file).is_file() and test.rpartition("::")[2] in fault_page.names_of(root / file)


def _read(file: Path) -> list[dict[str, Any]]:
    try:
        content = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        return []
    return list(content["tests"]) if content.get("schema") == SCHEMA else []


def _commit(root: Path) -> str:
    try:
        return provenance.commit(root)
    except Error:
        return ""
