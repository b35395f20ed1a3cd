"""Each part of a backup is read back out of the repository before it counts; a restore loads them in their order."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import pwd
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.backup_parts import AT, RECORD, VERSIONS, FakeRepository, FakeServer, StoringRepository, begun
from tests.support.programs import arguments, on_path
from tests.unit.host.backup.test_restore import run
from zmanim_host.backup import restore, steps
from zmanim_host.backup.record import CompletionRecord, to_json
from zmanim_host.backup.restore import Restore
from zmanim_host.backup.scratch import Scratch
from zmanim_host.backup.steps import Backup
from zmanim_host.host import HostError, locked
from zmanim_host.postgres import Server, Survey

ROLES = f"CREATE ROLE postgres;\nCREATE ROLE zmanim;\n{steps.GLOBALS_END}\n"
# What redis-check-rdb says of four keys that never expire and three that do.
KEYS = "printf '[info] 7 keys read\\n[info] 3 expires\\n[info] 0 already expired\\n'"


@pytest.fixture
def repository() -> StoringRepository:
    return StoringRepository()


@pytest.fixture
def backup(tmp_path: Path, repository: StoringRepository) -> Backup:
    begun(tmp_path)
    return Backup(repository, "i-1", FakeServer(), tmp_path, lambda: AT)


def part(backup: Backup, name: str) -> dict[str, Any]:
    values: dict[str, Any] = json.loads((backup.work / "run" / name).read_text())
    return values


def queries(server: Server) -> list[str]:
    assert isinstance(server, FakeServer)
    return server.queries


def test_a_database_is_counted_and_dumped_in_one_snapshot_and_read_back(
    repository: StoringRepository, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_path(tmp_path / "programs", monkeypatch, {"pg_restore": 'cat >"${HERE}/dump"'})
    repository.content["/zmanim.pgdump"] = b"dump"
    backup.back_up_database("zmanim", ["pg_dump", "zmanim"])
    ((tags, name, source),) = repository.stored
    assert (tags, name) == (["run:r1", "part:database=zmanim"], "/zmanim.pgdump")
    assert source["command"] == ["pg_dump", "zmanim", "--snapshot=0-1-2"]
    assert source["environment"] == {"PGOPTIONS": "-c deaf=zmanim"}
    assert (here / "dump").read_text() == "dump"
    assert arguments(here, "pg_restore") == [["--file=/dev/null"]]
    assert part(backup, "database=zmanim")["rows"] == {"public.cities": 3}


def test_the_server_s_snapshot_is_not_held_any_longer_when_a_dump_is_read_back(
    repository: StoringRepository, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path / "programs", monkeypatch, {"pg_restore": "exit 1"})
    repository.content["/zmanim.pgdump"] = b"dump"
    with pytest.raises(HostError, match="not whole"):
        backup.back_up_database("zmanim", ["pg_dump", "zmanim"])
    assert queries(backup.server) == ["the exported snapshot ends"]


@pytest.mark.incident("a dump that ended early was a backup for weeks")
def test_a_dump_that_can_t_be_read_to_its_end_is_no_part(
    repository: StoringRepository, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = "echo 'pg_restore: error: unexpected end of file' >&2; exit 1"
    on_path(tmp_path / "programs", monkeypatch, {"pg_restore": output})
    repository.content["/zmanim.pgdump"] = b"du"
    with pytest.raises(HostError, match=r"in the repository is not whole, .*unexpected end of file"):
        backup.back_up_database("zmanim", ["pg_dump"])
    assert not (backup.work / "run/database=zmanim").exists()


def test_roles_are_a_part_only_when_their_script_is_whole(repository: StoringRepository, backup: Backup) -> None:
    repository.content["/globals.sql"] = ROLES[:30].encode()
    with pytest.raises(HostError, match="are not whole"):
        backup.back_up_globals(["pg_dumpall"])
    assert not (backup.work / "run/globals").exists()
    repository.content["/globals.sql"] = ROLES.encode()
    backup.back_up_globals(["pg_dumpall"])
    assert part(backup, "globals")["roles"] == ["postgres", "zmanim"]
    assert repository.stored[-1][2]["environment"] == {"PGOPTIONS": "-c deaf=everywhere"}


def test_redis_s_file_is_a_part_only_when_the_repository_gives_back_the_same_bytes(
    repository: StoringRepository, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path / "programs", monkeypatch, {"redis-check-rdb": KEYS})
    file = backup.work / "redis.rdb"
    file.write_bytes(b"REDIS" * (1 << 19))
    repository.content[str(file)] = file.read_bytes()[:-1]
    with pytest.raises(HostError, match="is not what was written there"):
        backup.back_up_redis(file)
    assert not (backup.work / "run/redis").exists()
    repository.content[str(file)] = file.read_bytes()
    backup.back_up_redis(file)
    assert (part(backup, "redis")["lasting"], part(backup, "redis")["expiring"]) == (4, 3)
    assert part(backup, "redis")["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_no_part_is_made_where_no_run_has_begun(repository: StoringRepository, tmp_path: Path) -> None:
    backup = Backup(repository, "i-1", FakeServer(), tmp_path)
    with pytest.raises(HostError, match="no run has begun"):
        backup.back_up_globals(["pg_dumpall"])
    with pytest.raises(HostError, match="no run has begun"):
        backup.back_up_database("zmanim", ["pg_dump"])
    assert repository.stored == []


@pytest.mark.parametrize(("version", "fits"), [("17.12", True), ("16.9", False), ("18.1", False), ("", False)])
def test_a_pg_dump_of_another_major_version_backs_nothing_up(
    backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, fits: bool
) -> None:
    on_path(tmp_path / "programs", monkeypatch, {"pg_dump": f"echo 'pg_dump (PostgreSQL) {version}'"})
    if fits:
        backup.check_version()
    else:
        words = "the server has major version 17: nothing was backed up" if version else "pg_dump --version says"
        with pytest.raises(HostError, match=words):
            backup.check_version()


@dataclass(frozen=True)
class Steps(Backup):
    """A backup whose steps are only written down."""

    done: list[str] = field(default_factory=list)

    def begin(self) -> None:
        self.done.append("begin")

    def complete(self) -> None:
        self.done.append("complete")

    def apply_retention(self) -> None:
        self.done.append("apply-retention")

    def back_up_database(self, database: str, command: Any) -> None:
        self.done.append(" ".join(["database", database, *command]))

    def back_up_globals(self, command: Any) -> None:
        self.done.append(f"globals {' '.join(command)}")

    def back_up_redis(self, file: Path) -> None:
        self.done.append(f"redis {file}")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["begin"], "begin"),
        (["complete"], "complete"),
        (["apply-retention"], "apply-retention"),
        (["database", "zmanim", "--", "pg_dump", "-Fc"], "database zmanim pg_dump -Fc"),
        (["globals", "--", "pg_dumpall"], "globals pg_dumpall"),
        (["redis", "/data/x.rdb"], "redis /data/x.rdb"),
        (["begin", "now"], ""),
        (["database", "zmanim"], ""),
        (["redis"], ""),
        ([], ""),
    ],
)
def test_backup_sh_s_words_are_one_step_or_the_usage(words: list[str], expected: str) -> None:
    recorded = Steps(FakeRepository(), "i-1")
    if expected:
        steps.run_step(recorded, words)
    else:
        with pytest.raises(HostError, match="zmanim-host backup begin"):
            steps.run_step(recorded, words)
    assert " ".join(recorded.done) == expected


def test_databases_are_listed_line_by_line(backup: Backup, capsys: pytest.CaptureFixture[str]) -> None:
    steps.run_step(backup, ["databases"])
    assert capsys.readouterr().out == "postgres\nzmanim\n"


# ---- Back out of it ----


@dataclass(frozen=True)
class FakeScratch(Scratch):
    """Scratch servers that come out as the record says; `done` is what is done to them."""

    fake: FakeServer = field(default_factory=FakeServer)

    @property
    def done(self) -> list[str]:
        return self.fake.queries

    @contextmanager
    def running_postgresql(self) -> Iterator[Server]:
        self.done.append("postgresql up")
        yield replace(self.fake, socket=str(self.directory / "socket"))
        self.done.append("postgresql down")

    @contextmanager
    def running_redis(self) -> Iterator[Callable[[str], str]]:
        self.done.append("redis up")
        yield lambda words: "db0:keys=7,expires=3"
        self.done.append("redis down")


@pytest.fixture
def stored(repository: StoringRepository) -> CompletionRecord:
    """The record of what the repository holds."""
    files = {"/globals.sql": ROLES.encode(), "/zmanim.pgdump": b"dump", "/data/backup/redis.rdb": b"RDB"}
    repository.content.update(files)
    digest = hashlib.sha256(b"RDB").hexdigest()
    return replace(RECORD, redis=replace(RECORD.redis, sha256=digest))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeScratch:
    on_path(tmp_path / "programs", monkeypatch, {"redis-check-rdb": KEYS, "pg_restore": "cat >/dev/null"})
    (tmp_path / "redis").mkdir()
    return FakeScratch(tmp_path, None)


def test_a_restore_makes_roles_then_databases_then_redis_and_stops_both(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, tmp_path: Path
) -> None:
    finished: list[str] = []

    def finish(server: Server) -> None:
        finished.append(server.socket)
        (loaded,) = arguments(tmp_path / "programs", "pg_restore")
        assert "--dbname=template1" in loaded
        place.done.append("loaded")

    assert restore.fill(repository, stored, place, finish) == 7
    assert finished == [str(tmp_path / "socket")]
    done = [line for line in place.done if "ROLE" not in line]
    assert done == ["postgresql up", "loaded", "postgresql down", "redis up", "redis down"]
    # The new cluster has its superuser already.
    (roles,) = (line for line in place.done if "ROLE" in line)
    assert "CREATE ROLE zmanim;" in roles
    assert "CREATE ROLE postgres;" not in roles


def test_a_restore_that_differs_from_its_record_is_none(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch
) -> None:
    differs = replace(place, fake=FakeServer(surveyed=Survey({"public.cities": 2}, {"postgis": "3.5"})))
    wrong = replace(stored, redis=replace(stored.redis, lasting=5))
    with pytest.raises(HostError, match=r"cities has 2 rows, not 3; Redis has 4 keys without expiry, not 5"):
        restore.fill(repository, wrong, differs, None)


def test_redis_s_file_that_is_another_than_the_record_s_is_not_loaded(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch
) -> None:
    repository.content["/data/backup/redis.rdb"] = b"RDB2"
    with pytest.raises(HostError, match="is not the one that the record is about"):
        restore.fill(repository, stored, place, None)
    assert "redis up" not in place.done


def test_a_dump_that_does_not_load_is_an_error_with_pg_restore_s_words(
    repository: StoringRepository,
    stored: CompletionRecord,
    place: FakeScratch,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = on_path(tmp_path / "full", monkeypatch, {"pg_restore": "echo 'error: relation exists' >&2; exit 1"})
    with pytest.raises(HostError, match="error: relation exists"):
        restore.fill(repository, stored, place, None)
    (given,) = arguments(here, "pg_restore")
    assert {"--exit-on-error", f"--host={tmp_path}/socket", "--dbname=template1"} <= set(given)


@dataclass(frozen=True)
class DryRestore(Restore):
    """A restore that only writes down where it restores to."""

    done: list[str] = field(default_factory=list)
    fails: str = ""

    def fill(self, record: CompletionRecord, place: Scratch, finish: object = None) -> int:
        if self.fails:
            raise HostError(self.fails)
        self.done.append(f"fill {place.directory.name}")
        return 7


@pytest.fixture
def restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DryRestore:
    on_path(tmp_path / "programs", monkeypatch, {**VERSIONS, "aws": ""})
    (tmp_path / "backup").mkdir()
    repository = StoringRepository(known=[run("whole", 0)])
    repository.content["/record.json"] = to_json(RECORD).encode()
    return DryRestore(repository, tmp_path, None, lambda: AT + timedelta(hours=2))


def options(*words: str) -> argparse.Namespace:
    return restore.parser().parse_args(words)


def test_a_drill_restores_beside_what_is_live_and_leaves_nothing(
    restored: DryRestore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a killed one left is no obstacle.
    (tmp_path / "backup/scratch").mkdir()
    (tmp_path / "backup/scratch/half").write_text("")
    restored.run(options("--latest", "--drill", "--json"))
    assert restored.done == ["fill scratch"]
    (sent,) = arguments(tmp_path / "programs", "aws")
    metrics = json.loads(sent[sent.index("--metric-data") + 1])
    assert [metric["MetricName"] for metric in metrics] == ["RestoreDrillSeconds", "RestoreDrillDataAge"]
    assert (round(metrics[0]["Value"]), metrics[1]["Value"]) == (0, 7200)
    assert list((tmp_path / "backup").iterdir()) == []
    result = json.loads(capsys.readouterr().out)
    assert (result["run"], result["rows"], result["keys"], result["age"]) == ("whole", 3, 7, 7200)


def test_what_fails_in_a_drill_is_removed_too(restored: DryRestore, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="record says"):
        replace(restored, fails="is not what its record says").run(options("--latest", "--drill"))
    assert arguments(tmp_path / "programs", "aws") == []
    assert list((tmp_path / "backup").iterdir()) == []


def test_only_what_is_to_be_kept_is_kept(restored: DryRestore, tmp_path: Path) -> None:
    restored.run(options("--latest", "--into-scratch", str(tmp_path / "here")))
    assert (tmp_path / "here").is_dir()
    assert restored.done == ["fill here"]


def test_only_replace_swaps_and_not_without_root(
    restored: DryRestore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(HostError, match="as root"):
        restored.run(options("--run", "whole", "--replace", "--yes"))
    assert restored.done == []
    # What is filled is swapped with what is live, and that is where this ends: initdb has no cluster to sync.
    programs = {"systemctl": "echo ActiveState=inactive", "initdb": "exit 1"}
    here = on_path(tmp_path / "more", monkeypatch, programs)
    with pytest.raises(HostError, match="initdb: exit code 1"):
        replace(restored, user=pwd.getpwuid(os.getuid()).pw_name).run(options("--run", "whole", "--replace", "--yes"))
    assert restored.done == ["fill replace"]
    assert arguments(here, "initdb") == [["--sync-only", f"--pgdata={tmp_path}/backup/replace/postgres"]]


def test_two_restores_at_once_are_refused(restored: DryRestore) -> None:
    with locked(restored.data / "backup"), pytest.raises(HostError, match="another backup or restore is running"):
        restored.run(options("--latest"))
    assert restored.done == []
    # And the lock is gone with its holder.
    restored.run(options("--latest"))
    assert restored.done == ["fill scratch"]


def test_an_operator_sees_which_runs_can_be_restored(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run("old", 1), run("cut", 2, record=None), run("late", 99), run("ours", 3, record=None, adoption=True)]
    restore.show_runs(runs, AT + timedelta(days=5), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["late", "ours", "cut", "old"]
    assert [line.split()[2] for line in lines] == ["complete", "adoption", "incomplete", "complete"]
    assert ["FUTURE" in line for line in lines] == [True, False, False, False]
    restore.show_runs(runs, AT + timedelta(days=5), as_json=True)
    assert [row["state"] for row in json.loads(capsys.readouterr().out)][2] == "incomplete"
