"""What a killed rehearsal left behind is found, and nobody else's processes are."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zmanim_ami.rehearsal import owner
from zmanim_ami.rehearsal.owner import VARIABLE, ProcessRef, owner_of, stop_leftovers, this_process

DEAD = ProcessRef(pid=os.getpid(), started=1)  # this process's id, but not its start time: a reused id


@contextmanager
def _sleeper(owner: str) -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen(["sleep", "60"], env={**os.environ, VARIABLE: owner}) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_of_a_dead_rehearsal_is_ended() -> None:
    with _sleeper(DEAD.name()) as process:
        assert process.pid in stop_leftovers()
        assert process.wait(5) != 0


def test_an_orphan_of_a_dead_rehearsal_is_not_even_listed_any_more() -> None:
    script = "sleep 60 >/dev/null 2>&1 & echo $!"
    ended = subprocess.run(
        ["sh", "-c", script], env={**os.environ, VARIABLE: DEAD.name()}, capture_output=True, text=True, check=True
    )
    orphan = int(ended.stdout)
    assert orphan in stop_leftovers()
    assert not Path(f"/proc/{orphan}").exists()


def test_a_process_of_a_living_rehearsal_is_left_alone() -> None:
    with _sleeper(this_process().name()) as process:
        assert process.pid not in stop_leftovers()
        assert process.poll() is None


@pytest.mark.incident("cloud.down on a host ended the compilers of a rehearsal that ran in a container there")
def test_a_process_of_a_rehearsal_in_a_container_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with _sleeper(DEAD.name()) as process:
        monkeypatch.setattr(owner, "_namespace", lambda pid: "a container's" if pid == str(process.pid) else "ours")
        assert process.pid not in stop_leftovers()
        assert process.poll() is None


def test_a_process_with_a_strange_owner_is_left_alone() -> None:
    with _sleeper("something else") as process:
        assert process.pid not in stop_leftovers()
        assert process.poll() is None


def test_the_owner_of_a_cloud_can_be_read_back_from_its_name() -> None:
    assert owner_of(this_process().name()) == this_process()
    assert owner_of(this_process().name("bench")) == this_process()
    assert owner_of("default") is None


def test_a_reused_process_id_is_not_taken_for_its_predecessor() -> None:
    assert this_process().is_alive()
    assert not DEAD.is_alive()
