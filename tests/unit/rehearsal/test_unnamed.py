"""A command that names no cloud means the person's own, whatever else is up on the machine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from localcloud import control
from localcloud.settings import Cloud
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import owner
from zmanim_ami.rehearsal.owner import ProcessRef, this_process

KILLED = ProcessRef(os.getpid(), started=1).name()
ALIVE = this_process().name("release")
OTHER = "another-s"


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the clouds of a killed and of a living test are, and one that somebody has named."""
    for name in (KILLED, ALIVE, OTHER):
        (tmp_path / name).mkdir()

    def find(name: str, state: Path) -> Cloud | None:
        return Cloud(name, "eu-west-1", state / name, 7) if (state / name).exists() else None

    monkeypatch.setattr(control, "find", find)
    return tmp_path


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was taken down, and whose processes were ended."""
    ended: list[str] = []
    monkeypatch.setattr(control, "down", lambda name, _state: ended.append(name))

    def stop_leftovers(name: str) -> list[int]:
        ended.append(f"processes of {name or 'all'}")
        return []

    monkeypatch.setattr(clouds, "stop_leftovers", stop_leftovers)
    return ended


@pytest.mark.incident("an unnamed command was run in the only cloud that was up: a test's")
def test_no_other_cloud_is_chosen_where_none_is_named(state: Path) -> None:
    with pytest.raises(clouds.NoCloud, match="the local cloud default is not up") as error:
        clouds.running("", state)
    assert OTHER in str(error.value)
    assert "--name with one that is up" in str(error.value)
    assert clouds.running(OTHER, state).name == OTHER
    (state / clouds.PERSONS_CLOUD).mkdir()
    assert clouds.running("", state).name == clouds.PERSONS_CLOUD


@pytest.mark.incident("cloud.down without a name took every cloud of the machine down but those of living processes")
def test_only_one_s_own_and_what_was_killed_is_taken_down_where_none_is_named(
    state: Path, ended: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    clouds.down("", state)
    assert ended == ["default", KILLED, "processes of all"]
    assert f"{OTHER} is left alone (--name {OTHER} takes it down)" in capsys.readouterr().err


def test_a_name_takes_that_cloud_down_and_ends_what_its_killed_owner_has_left(state: Path, ended: list[str]) -> None:
    clouds.down(KILLED, state)
    assert ended == [KILLED, f"processes of {KILLED}"]


def test_processes_of_another_killed_rehearsal_are_not_those_of_the_one_that_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    environment = b"REHEARSAL_OWNER=" + KILLED.encode()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: environment.decode())
    monkeypatch.setattr(owner, "_namespace", lambda _pid: "ours")
    monkeypatch.setattr(ProcessRef, "is_alive", lambda _self: False)
    assert owner._is_leftover(1, "")
    assert owner._is_leftover(1, KILLED)
    assert not owner._is_leftover(1, "rehearsal-4242-4242")
