"""--replace: what was there stays whole and comes back when the restored does not start; no stranger's file is used."""

from __future__ import annotations

import hashlib
import os
import pwd
import shutil
from collections.abc import Sequence
from dataclasses import replace as changed
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.backup_parts import RECORD as PARTS
from tests.support.programs import SANDBOX, arguments, on_path
from zmanim_host.backup import replace
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import HostError
from zmanim_host.storage import swap

SYSTEMCTL = """
case "$1 $*" in
*ControlGroup*) echo "ControlGroup=" ;;
show*) echo "ActiveState=$(cat "${HERE}/state")" ;;
start*) test ! -e "${HERE}/broken" || { rm "${HERE}/broken"; echo 'postgresql.service does not start' >&2; exit 1; } ;;
esac
"""
ME = pwd.getpwuid(os.getuid()).pw_name
USERS = {"postgres": ME, "redis": ME}
SNAPSHOT = b"REDIS0011 restored"
RECORD = changed(PARTS, redis=changed(PARTS.redis, sha256=hashlib.sha256(SNAPSHOT).hexdigest()))


class Machine:
    """A machine's data, something restored beside it, and systemctl as it answers."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.data = directory / "data"
        for name in ("postgres", "redis"):
            (self.data / name).mkdir(parents=True)
            (self.data / name / "dump.rdb").write_bytes(b"live")
        programs = {**SANDBOX, "systemctl": SYSTEMCTL, "initdb": "", "sync": ""}
        self.programs = on_path(directory / "programs", monkeypatch, programs)
        self.api("inactive")

    def api(self, state: str) -> None:
        (self.programs / "state").write_text(state)

    def restored(self) -> Scratch:
        place = Scratch(self.data / "restore")
        for name in ("postgres", "redis"):
            (place.directory / name).mkdir(parents=True)
            (place.directory / name / "dump.rdb").write_bytes(SNAPSHOT)
        (place.postgres / "pg_hba.conf").write_text("local all all trust")
        (place.postgres / "postgresql.auto.conf").write_text("archive_command = 'evil'")
        return place

    def exchange(self, place: Scratch) -> None:
        replace.exchange(RECORD, place, self.data, USERS)

    def states(self, folder: str = "") -> set[bytes]:
        return {(self.data / folder / name / "dump.rdb").read_bytes() for name in ("postgres", "redis")}

    def requested(self) -> list[Sequence[str]]:
        calls = arguments(self.programs, "systemctl")
        return [call for call in calls if call[0] != "show" and call[1:] != ["zmanim-scratch.slice"]]


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


@pytest.mark.parametrize("state", ["active", "activating", "deactivating", "reloading", ""])
def test_data_is_not_replaced_under_an_api_that_writes(machine: Machine, state: str) -> None:
    machine.api(state)
    with pytest.raises(HostError, match="systemctl stop zmanim-api"):
        replace.check(RECORD, machine.data)


@pytest.mark.incident("an API that was started while a restore loaded for hours lost what it had written")
def test_an_api_that_was_started_meanwhile_keeps_its_data(machine: Machine) -> None:
    replace.check(RECORD, machine.data)
    place = machine.restored()
    machine.api("active")
    with pytest.raises(HostError, match="systemctl stop zmanim-api"):
        machine.exchange(place)
    assert machine.states() == {b"live"}
    assert not (machine.data / swap.JOURNAL).exists()
    assert machine.requested() == []


@pytest.mark.incident("a restore whose end was killed lost weeks of customers' writes at the next boot")
@pytest.mark.parametrize("killed_in", ["decide", "end"])
def test_a_restore_that_is_killed_at_its_end_loses_nothing_at_the_next_boot(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, killed_in: str
) -> None:
    class Killed(BaseException):
        pass

    def killed(*_: object) -> None:
        raise Killed

    place = machine.restored()
    with monkeypatch.context() as patched:
        # What SIGKILL leaves: neither this step nor what would undo it is done.
        patched.setattr(swap, killed_in, killed)
        patched.setattr(swap, "back", killed)
        with pytest.raises(Killed):
            machine.exchange(place)
    (machine.data / "postgres/dump.rdb").write_bytes(b"written since")
    assert (machine.data / swap.JOURNAL).exists(), "the API does not start"
    swap.recover(machine.data)
    kept = {path.read_bytes() for path in machine.data.glob("*/postgres/dump.rdb")}
    kept.add((machine.data / "postgres/dump.rdb").read_bytes())
    assert kept == {b"written since", b"live"}
    assert (machine.data / "postgres/dump.rdb").read_bytes() == (b"live" if killed_in == "decide" else b"written since")


def test_the_api_does_not_start_beside_a_journal() -> None:
    files = ROOT / "infrastructure/packer/files"
    for unit in ("zmanim-api.service", "zmanim-migrate.service"):
        assert f"AssertPathExists=!/data/{swap.JOURNAL}" in (files / unit).read_text().splitlines(), unit


def test_what_was_there_stays_whole(machine: Machine) -> None:
    machine.exchange(machine.restored())
    assert machine.states() == {SNAPSHOT}
    assert machine.states("before-whole") == {b"live"}
    assert {path.name for path in machine.data.iterdir()} == {"postgres", "redis", "before-whole"}
    assert [call[0] for call in arguments(machine.programs, "initdb")] == ["--sync-only"]
    stores = ["postgresql.service", "redis.service"]
    assert machine.requested() == [["stop", *stores], ["start", *stores]]
    # And a second time nothing is written over it.
    with pytest.raises(HostError, match="is there, from an earlier restore"):
        replace.check(RECORD, machine.data)


def test_what_does_not_start_gives_way_to_what_was_there(machine: Machine) -> None:
    (machine.programs / "broken").touch()
    with pytest.raises(HostError, match=r"the old data is back: .*postgresql\.service does not start"):
        machine.exchange(machine.restored())
    assert machine.states() == {b"live"}
    assert {path.name for path in machine.data.iterdir()} == {"postgres", "redis", "restore"}
    assert machine.requested()[-1][0] == "start"


@pytest.mark.incident("a restore that was ended while the servers were stopped left them stopped")
def test_what_is_ended_while_it_changes_places_leaves_the_old_data_and_both_servers_running(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, rename, done = machine.restored(), os.rename, []

    def ended(*words: Any, **options: Any) -> None:
        done.append(words)
        if len(done) == 2:
            raise SystemExit(143)
        rename(*words, **options)

    monkeypatch.setattr(os, "rename", ended)
    with pytest.raises(SystemExit):
        machine.exchange(place)
    assert machine.states() == {b"live"}
    assert not (machine.data / ".zmanim-swap.json").exists()
    assert machine.requested()[-1] == ["start", "postgresql.service", "redis.service"]


def test_a_machine_that_lost_its_data_can_be_filled(machine: Machine) -> None:
    place = machine.restored()
    shutil.rmtree(machine.data / "redis")
    machine.exchange(place)
    assert machine.states() == {SNAPSHOT}


@pytest.mark.incident("settings that a restored cluster had brought along were read by the live server")
def test_the_restored_cluster_s_own_configuration_is_ours(machine: Machine) -> None:
    machine.exchange(machine.restored())
    for name in replace.OURS:
        assert (machine.data / "postgres" / name).read_text() == replace.NOTE


@pytest.mark.incident("links and a second Redis's files were moved into the live servers' places")
@pytest.mark.parametrize("planted", ["link", "hard link", "pipe", "file beside the snapshot", "another snapshot"])
def test_nothing_is_used_that_is_no_plain_file_or_was_not_compared(
    machine: Machine, planted: str, tmp_path: Path
) -> None:
    place = machine.restored()
    (tmp_path / "victim").write_text("mine")
    if planted == "link":
        (place.postgres / "base").symlink_to(tmp_path)
    elif planted == "hard link":
        (place.postgres / "base").hardlink_to(tmp_path / "victim")
    elif planted == "pipe":
        os.mkfifo(place.redis / "pipe")
    elif planted == "file beside the snapshot":
        (place.redis / "appendonly.aof").touch()
    else:
        place.snapshot.write_bytes(b"changed")
    with pytest.raises(HostError, match=r"nothing of (it|what is restored) is used"):
        machine.exchange(place)
    assert machine.states() == {b"live"}
    assert machine.requested() == []


def test_a_run_whose_id_is_a_path_is_refused(machine: Machine) -> None:
    with pytest.raises(HostError, match="is no id of a run"):
        replace.check(changed(RECORD, run="../../etc"), machine.data)
