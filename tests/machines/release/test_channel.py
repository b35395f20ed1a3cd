"""A machine that follows the release channel: one restart for a new release, and none of the bad ones stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.machines.image import VERSION, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.releases import CRASHES, ENVIRONMENT, Follower, follower


@pytest.fixture(scope="module")
def prod(images: ImageLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Follower]:
    with follower(images, tmp_path_factory.mktemp("releases")) as result:
        yield result


def ready(prod: Follower) -> dict[str, Any]:
    """Let the machine look whether it is ready, and return its checks."""
    prod.images.run(prod.machine, "systemctl restart zmanim-ready || true")
    checks: dict[str, Any] = json.loads(prod.images.run(prod.machine, "cat /run/zmanim/ready.json"))["checks"]
    return checks


@pytest.mark.incident("download-latest.sh, writable by the API's user, ran as root")
def test_a_new_release_and_a_rollback_each_go_live_within_one_restart(prod: Follower) -> None:
    assert prod.serves() == VERSION
    first = prod.publish("", "CREATE TABLE of_the_first (n int);\n")
    prod.restart()
    prod.wait_serves(first)
    # Its migration came with it.
    assert prod.images.query(prod.machine, "SELECT count(*) FROM of_the_first") == "0"
    wait_for(lambda: prod.state()["trial"] is None, 60, "the probation's end")
    assert f"starting {first}: from the channel, on probation; the channel's serial 1 names {first}" in prod.journal()

    second = prod.publish()
    prod.restart()
    prod.wait_serves(second)
    prod.rollback(first)
    prod.restart()
    prod.wait_serves(first)
    assert prod.state()["serial"] == 3
    # On a slow host the second one has passed its probation meanwhile, and the first one is on probation again.
    wait_for(lambda: prod.state()["trial"] is None, 90, "the end of a probation")
    prod.is_well()
    # Whoever asks whether it is ready learns which release runs and why, and that another one should.
    detail = f"{first}: from the channel; the channel's serial 3 names {first}"
    assert ready(prod)["release"] == {"ok": True, "required": True, "detail": detail}
    current = "ln --symbolic --force --no-dereference {} /opt/zmanim/releases/current"
    prod.images.run(prod.machine, current.format(VERSION))
    assert ready(prod)["release"]["detail"].startswith(f"{first} runs, and {VERSION} is in force")
    prod.images.run(prod.machine, current.format(first))
    assert ready(prod)["release"]["ok"]
    # Nobody but root can write what runs, and the fetcher has its own folder only.
    assert prod.images.run(prod.machine, "find /opt/zmanim -not -user root -or -not -type l -perm /022") == ""
    assert prod.images.run(prod.machine, "stat --format='%U %a' /var/lib/zmanim-release") == "zmanim-release 700"


@pytest.mark.fault(
    46,
    injected="a signed release that crashes",
    must="it is rolled back, denied, and mailed about once",
)
def test_a_release_that_crashes_is_rolled_back_and_denied(prod: Follower) -> None:
    good = prod.proven()
    bad = prod.publish(CRASHES)
    prod.restart()
    prod.wait_serves(good)
    wait_for(lambda: f"{bad} is rolled back (it ended by itself 3 times): {good} runs" in prod.journal(), 60, "why")
    assert len(prod.state()["denied"]) == 1
    prod.mailed(bad)
    assert not prod.status()["run_migrations"]
    # Neither the next restart nor a new serial brings it back.
    prod.restart()
    prod.wait_serves(good)
    assert f"{bad} failed on this machine before and is not tried again" in prod.status()["why"]
    prod.is_well()
    # One mail, however often the API starts: which release, why, what it said itself, and what runs now.
    mail = prod.mailed(bad)
    assert mail["subject"] == f"zmanim {ENVIRONMENT}: {bad} was rolled back, {good} runs"
    assert "it ended by itself 3 times" in mail["body"]
    assert f"a bad release {bad}" in mail["body"]
