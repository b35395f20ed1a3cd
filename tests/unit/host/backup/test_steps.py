"""The steps of a backup: what is refused, what makes a run complete, in which order runs go; and --replace."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace as changed
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.host.backup.test_restore import RECORD, REPO
from zmanim_host.aws import metrics
from zmanim_host.backup import replace, restic, scratch, servers, steps
from zmanim_host.backup.retention import Run
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import HostError
from zmanim_host.storage import redis_files

MONDAY = datetime(2026, 11, 23, 3, 2, tzinfo=UTC)
SUNDAY = datetime(2026, 11, 22, 3, 2, tzinfo=UTC)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write down what restic is asked to do instead of doing it."""
    found: list[str] = []

    def ask(repo: object, *arguments: str, **_options: object) -> Any:
        found.append(" ".join(arguments))
        summary = {"message_type": "summary", "snapshot_id": "made", "total_bytes_processed": 9}
        return SimpleNamespace(returncode=0, stdout=json.dumps(summary), stderr="")

    monkeypatch.setattr(restic, "restic", ask)
    monkeypatch.setattr(restic, "check_reachable", lambda repo: None)
    monkeypatch.setattr(servers, "databases", lambda server: ["postgres", "zmanim"])
    monkeypatch.setattr(servers, "system_identifier", lambda server: "77")
    monkeypatch.setattr(steps, "check_versions", lambda: None)
    monkeypatch.setattr(steps, "versions", lambda: {"postgresql": "170012", "redis": "7.0.15", "restic": "0.19.1"})
    monkeypatch.setattr(steps, "now", lambda: MONDAY)
    return found


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Write down which metrics are sent."""
    found: list[str] = []
    monkeypatch.setattr(metrics, "put", lambda env, region, told: found.extend(one.name for one in told))
    return found


def night(days: float, *, system: str = "77", complete: bool = True) -> Run:
    name = f"{days}"
    record = f"rec{name}" if complete else None
    snapshots = (f"db{name}", f"rec{name}") if complete else (f"db{name}",)
    return Run(name, MONDAY - timedelta(days=days), snapshots, record, False, system)


def begun(work: Path, *parts: str) -> None:
    (work / "run").mkdir()
    told: dict[str, object] = {"run": "r1", "started": "2026-11-23T03:00:00Z", "system_identifier": "77"}
    (work / "run/begun").write_text(json.dumps(told))
    for part in parts:
        told = {"name": part, "snapshot": "s", "bytes": 5, "rows": {"t": 1}, "extensions": {}, "roles": []}
        told |= {"sha256": "", "lasting": 1, "expiring": 0}
        (work / "run" / part).write_text(json.dumps(told))


@pytest.mark.incident("an empty instance beside production pushed production's backups out")
def test_another_cluster_s_repository_is_not_begun_in(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restic, "open_or_make", lambda repo: [night(1, system="88")])
    with pytest.raises(HostError, match="are of cluster 88"):
        steps.begin(REPO, tmp_path)
    assert list(tmp_path.iterdir()) == []
    assert calls == []


def test_a_run_begins_with_what_a_killed_one_left_removed(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun(tmp_path, "redis")
    (tmp_path / "redis.rdb").write_text("half")
    monkeypatch.setattr(restic, "open_or_make", lambda repo: [])
    steps.begin(REPO, tmp_path)
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["begun"]
    assert calls == []
    assert not (tmp_path / "redis.rdb").exists()
    assert steps.read_begun(tmp_path).system_identifier == "77"


@pytest.mark.parametrize("missing", ["globals", "redis", "database=zmanim", "database=postgres"])
def test_a_run_that_lacks_a_part_gets_no_record_and_no_metric(
    tmp_path: Path, calls: list[str], sent: list[str], missing: str
) -> None:
    begun(tmp_path, *({"globals", "redis", "database=zmanim", "database=postgres"} - {missing}))
    with pytest.raises(HostError, match=f"lacks {missing}"):
        steps.complete(REPO, {"INSTANCE_ID": "i-1"}, tmp_path)
    assert (calls, sent) == ([], [])


def test_the_record_is_the_last_snapshot_and_says_whose_it_is(
    tmp_path: Path, calls: list[str], sent: list[str]
) -> None:
    begun(tmp_path, "globals", "redis", "database=zmanim", "database=postgres")
    steps.complete(REPO, {"INSTANCE_ID": "i-1"}, tmp_path)
    (call,) = calls
    assert "--tag run:r1 --tag part:record --tag system:77 --stdin --stdin-filename /record.json" in call
    assert sent == ["BackupCompleted", "BackupSeconds", "BackupBytes"]
    assert not (tmp_path / "run").exists()


def thinned(monkeypatch: pytest.MonkeyPatch, *runs: Run) -> None:
    monkeypatch.setattr(restic, "runs", lambda repo: list(runs))
    steps.thin_out(REPO)


@pytest.mark.incident("--remove-all took locks that were held")
def test_a_killed_run_s_locks_go_by_restic_s_own_rule_and_only_in_our_own_repository(
    tmp_path: Path, calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restic, "open_or_make", lambda repo: [night(1)])
    steps.begin(REPO, tmp_path)
    assert calls == ["unlock"]


def test_records_go_before_their_parts(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    thinned(monkeypatch, night(0), night(0.05), night(3, complete=False))
    assert calls == ["forget rec0.05", "forget db0.05 db3", "prune --quiet"]


def test_where_nothing_goes_nothing_is_locked_or_pruned(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    thinned(monkeypatch, night(0), night(1))
    assert calls == []


def test_on_sundays_a_part_of_the_data_is_read(calls: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps, "now", lambda: SUNDAY)
    thinned(monkeypatch, night(1))
    assert calls[0] == "prune --quiet"
    assert calls[1].startswith("check --read-data-subset=")
    assert calls[1].endswith("/4")


def test_a_run_from_the_future_is_told_of_when_all_else_is_done(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HostError, match="are dated in the future: -400"):
        thinned(monkeypatch, night(-400), night(0), night(0.05))
    assert "forget rec0.05" in calls
    assert not [call for call in calls if "400" in call]


def test_adopting_is_a_mark_in_the_repository_and_not_made_twice(
    calls: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(restic, "runs", lambda repo: [night(1, system="88")])
    steps.adopt(REPO)
    assert "--tag part:adoption --tag system:77" in calls[0]
    monkeypatch.setattr(restic, "runs", lambda repo: [night(1)])
    steps.adopt(REPO)
    assert len(calls) == 1


def test_a_name_that_a_list_of_lines_can_t_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(servers, "query", lambda server, database, sql: ['"zmanim"', '"a\\nb"'])
    with pytest.raises(HostError, match="can't be backed up"):
        servers.databases(servers.Server())


# ---- --replace ----


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """A machine's data, something restored beside it, and systemctl as it answers."""
    for name, content in (("postgres", "live"), ("redis", "live")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "state").write_text(content)
    found: dict[str, Any] = {"data": tmp_path, "api": "inactive", "starts": True, "asked": []}

    def run(command: Sequence[str], **_options: object) -> Any:
        found["asked"].append(" ".join(command))
        if command[:2] == ["systemctl", "is-active"]:
            return SimpleNamespace(stdout=found["api"] + "\n")
        if command[:2] == ["systemctl", "start"] and not found["starts"]:
            found["starts"] = True
            raise HostError("postgresql.service does not start")
        return SimpleNamespace(stdout="")

    monkeypatch.setattr(replace, "run", run)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(replace, "DIRECTORY", tmp_path / "backup/replace")
    monkeypatch.setattr(scratch, "prepare", lambda directory: Scratch(directory, None))
    return found


def restored(data: Path) -> Scratch:
    place = Scratch(data / "backup/replace", None)
    for name in ("postgres", "redis"):
        (place.directory / name).mkdir(parents=True)
        (place.directory / name / "state").write_text("restored")
    (place.postgres / "pg_hba.conf").write_text("trust")
    return place


def states(data: Path) -> set[str]:
    return {(data / name / "state").read_text() for name in ("postgres", "redis")}


@pytest.mark.parametrize("state", ["active", "activating", "deactivating", "reloading", ""])
def test_data_is_not_replaced_under_an_api_that_writes(machine: dict[str, Any], state: str) -> None:
    machine["api"] = state
    with pytest.raises(HostError, match="systemctl stop zmanim-api"):
        replace.prepare(RECORD, machine["data"])


def test_data_is_not_replaced_where_there_is_no_room_or_no_root(
    machine: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    huge = changed(RECORD, databases=(changed(RECORD.databases[0], bytes=1 << 60),))
    with pytest.raises(HostError, match="grow it"):
        replace.prepare(huge, machine["data"])
    monkeypatch.setattr(os, "geteuid", lambda: 403)
    with pytest.raises(HostError, match="as root"):
        replace.prepare(RECORD, machine["data"])


def test_what_was_there_stays_whole(machine: dict[str, Any]) -> None:
    data: Path = machine["data"]
    replace.swap(RECORD, restored(data), data)
    assert states(data) == {"restored"}
    assert states(data / "before-whole") == {"live"}
    assert not (data / "postgres/pg_hba.conf").exists()
    assert not (data / "backup/replace").exists()
    order = [line for line in machine["asked"] if line.startswith(("systemctl", "initdb"))]
    stores = "postgresql.service redis.service"
    assert [line.split(" --pgdata")[0] for line in order] == [
        "initdb --sync-only",
        f"systemctl stop {stores}",
        f"systemctl start {stores}",
    ]
    # And a second time nothing is written over it.
    with pytest.raises(HostError, match="is there, from an earlier restore"):
        replace.prepare(RECORD, data)


def test_what_does_not_start_gives_way_to_what_was_there(machine: dict[str, Any]) -> None:
    data: Path = machine["data"]
    machine["starts"] = False
    with pytest.raises(HostError, match=r"the old data is back: postgresql\.service does not start"):
        replace.swap(RECORD, restored(data), data)
    assert states(data) == {"live"}
    assert not (data / "before-whole").exists()
    assert machine["asked"][-1].startswith("systemctl start")


def test_a_machine_that_lost_its_data_can_be_filled(machine: dict[str, Any]) -> None:
    data: Path = machine["data"]
    place = restored(data)
    shutil.rmtree(data / "redis")
    replace.swap(RECORD, place, data)
    assert states(data) == {"restored"}


def test_a_scratch_directory_has_to_be_empty_and_its_sockets_have_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 403)
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").write_text("")
    with pytest.raises(HostError, match="is not empty"):
        scratch.prepare(tmp_path / "full")
    for bad in (Path("/" + "x" * 100), Path("relative")):
        with pytest.raises(HostError, match="absolute path of at most"):
            scratch.prepare(bad)


@pytest.mark.parametrize(("loading", "filled"), [(0, True), (1, False)])
def test_a_scratch_redis_is_full_when_it_says_that_it_loads_nothing_any_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, loading: int, filled: bool
) -> None:
    said = f"# Persistence\r\nloading:{loading}\r\nasync_loading:0\r\n"
    looked = []

    @contextmanager
    def running(*arguments: Any) -> Iterator[None]:
        looked.append(arguments[-1]())
        yield

    (tmp_path / "redis/made").mkdir(parents=True)
    monkeypatch.setattr(redis_files, "make_from_snapshot", lambda *_arguments: tmp_path / "redis/made")
    monkeypatch.setattr(scratch, "run", lambda *_arguments, **_options: SimpleNamespace(stdout=said))
    monkeypatch.setattr(scratch, "_running", running)
    with scratch.redis(Scratch(tmp_path, None)):
        pass
    assert looked == [filled]
