"""A pytest plugin for moto's own tests: their clients get the cloud's key, and so does what resets it between tests.

Environment: LOCALCLOUD_URL and LOCALCLOUD_KEY, as server.py has written them; both before moto is imported. OUTCOMES is
a file that gets a line of JSON for each test.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Generator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

URL, KEY = os.environ["LOCALCLOUD_URL"], os.environ["LOCALCLOUD_KEY"]
OUTCOMES = Path(os.environ["OUTCOMES"])
SECONDS = 120
os.environ["TEST_SERVER_MODE"] = "true"
os.environ["TEST_SERVER_MODE_ENDPOINT"] = URL
os.environ["MOTO_PORT"] = str(urlsplit(URL).port)

import requests  # noqa: E402
from moto.core import models  # noqa: E402


def _reset(_mock: object) -> None:
    requests.post(f"{URL}/moto-api/reset", headers={"X-Localcloud-Key": KEY}, timeout=30).raise_for_status()


setattr(models.ServerModeMockAWS, "reset", _reset)  # noqa: B010 - its type is a method's
_set_environment = models.MockAWS._mock_env_variables


def _with_key(mocking: models.MockAWS) -> None:
    mocking._fake_creds = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": "localcloud"}
    _set_environment(mocking)


setattr(models.MockAWS, "_mock_env_variables", _with_key)  # noqa: B010


def _end(_number: int, _frame: object) -> None:
    raise TimeoutError(f"not within {SECONDS} s")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call() -> Generator[None]:
    """End a test that takes too long: some ask again for ever for what is refused."""
    signal.signal(signal.SIGALRM, _end)
    signal.alarm(SECONDS)
    try:
        return (yield)
    finally:
        signal.alarm(0)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what has become of a test: what fails before or after it is its failure, too."""
    if report.when != "call" and report.passed:
        return
    crash = getattr(report.longrepr, "reprcrash", None)
    words = "" if report.passed else str(crash.message if crash else report.longrepr)[:500]
    with OUTCOMES.open("a") as file:
        file.write(json.dumps({"test": report.nodeid, "result": report.outcome, "words": words}) + "\n")
