"""Each part of a backup is read back out of the repository before it counts; a restore loads them in their order."""

from __future__ import annotations

import hashlib
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

import pytest

from tests.unit.host.backup.test_restore import AT, RECORD, REPO
from zmanim_host.aws import metrics
from zmanim_host.backup import replace as in_place
from zmanim_host.backup import restic, restore, scratch, servers
from zmanim_host.backup import steps as backup
from zmanim_host.backup.scratch import Scratch
from zmanim_host.backup.servers import Keys, Server, Survey
from zmanim_host.host import HostError

ROLES = f"CREATE ROLE postgres;\nCREATE ROLE zmanim;\n{backup.GLOBALS_END}\n"


class Repository:
    """A repository that holds what it is given, by its name; `spoils` changes what is read back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stored: list[tuple[list[str], str, dict[str, Any]]] = []
        self.content: dict[str, bytes] = {}
        monkeypatch.setattr(restic, "store", self.store)
        monkeypatch.setattr(restic, "read", lambda repo, snapshot, name: self.content[name].decode())
        monkeypatch.setattr(restic, "read_into", self.read_into)

    def store(self, repo: object, tags: list[str], *, name: str, **source: Any) -> Any:
        self.stored.append((tags, name, source))
        return SimpleNamespace(snapshot=f"snap{len(self.stored)}", bytes=len(self.content.get(name, b"")))

    def read_into(self, repo: object, snapshot: str, name: str, consume: Callable[[IO[bytes]], None]) -> None:
        consume(io.BytesIO(self.content[name]))


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Repository:
    return Repository(monkeypatch)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    told = {"run": "r1", "started": "2026-11-23T03:00:00Z", "system_identifier": "77"}
    (tmp_path / "run/begun").write_text(json.dumps(told))
    return tmp_path


def part(work: Path, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((work / "run" / name).read_text())
    return found


def test_a_database_is_counted_and_dumped_in_one_snapshot_and_read_back(
    repository: Repository, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    @contextmanager
    def exported(server: Server, database: str) -> Iterator[Survey]:
        yield Survey({"public.cities": 3}, {"postgis": "3.5"}, "0-1-2")
        told.append("over")

    def through(dump: IO[bytes]) -> None:
        told.append(dump.read().decode())

    repository.content["/zmanim.pgdump"] = b"dump"
    monkeypatch.setattr(servers, "exported", exported)
    monkeypatch.setattr(backup, "read_dump_through", through)
    backup.back_up_database(REPO, "zmanim", ["pg_dump", "zmanim"], work)
    ((tags, name, source),) = repository.stored
    assert (tags, name) == (["run:r1", "part:database=zmanim"], "/zmanim.pgdump")
    assert source["command"] == ["pg_dump", "zmanim", "--snapshot=0-1-2"]
    # Reading it back does not hold the server's snapshot any longer.
    assert told == ["over", "dump"]
    assert part(work, "database=zmanim")["rows"] == {"public.cities": 3}


@pytest.mark.incident("a dump that ended early was a backup for weeks")
def test_a_dump_that_can_t_be_read_to_its_end_is_no_part(
    repository: Repository, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def exported(server: Server, database: str) -> Iterator[Survey]:
        yield Survey({}, {}, "0-1-2")

    def run(command: list[str], **options: Any) -> Any:
        return SimpleNamespace(returncode=1, stderr=b"pg_restore: error: unexpected end of file")

    repository.content["/zmanim.pgdump"] = b"du"
    monkeypatch.setattr(servers, "exported", exported)
    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(HostError, match=r"can't be read to its end: .*unexpected end of file"):
        backup.back_up_database(REPO, "zmanim", ["pg_dump"], work)
    assert not (work / "run/database=zmanim").exists()


def test_roles_are_a_part_only_when_their_script_is_whole(
    repository: Repository, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "roles", lambda server: ("postgres", "zmanim"))
    repository.content["/globals.sql"] = ROLES[:30].encode()
    with pytest.raises(HostError, match="are not whole"):
        backup.back_up_globals(REPO, ["pg_dumpall"], work)
    assert not (work / "run/globals").exists()
    repository.content["/globals.sql"] = ROLES.encode()
    backup.back_up_globals(REPO, ["pg_dumpall"], work)
    assert part(work, "globals")["roles"] == ["postgres", "zmanim"]


def test_redis_s_file_is_a_part_only_when_the_repository_gives_back_the_same_bytes(
    repository: Repository, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = work / "redis.rdb"
    file.write_bytes(b"REDIS" * (1 << 19))
    monkeypatch.setattr(servers, "rdb_keys", lambda file: Keys(4, 3, 0))
    repository.content[str(file)] = file.read_bytes()[:-1]
    with pytest.raises(HostError, match="is not what was written there"):
        backup.back_up_redis(REPO, file, work)
    assert not (work / "run/redis").exists()
    repository.content[str(file)] = file.read_bytes()
    backup.back_up_redis(REPO, file, work)
    assert (part(work, "redis")["lasting"], part(work, "redis")["expiring"]) == (4, 3)
    assert part(work, "redis")["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()


def test_no_part_is_made_where_no_run_has_begun(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="no run has begun"):
        backup.back_up_globals(REPO, ["pg_dumpall"], tmp_path)
    with pytest.raises(HostError, match="no run has begun"):
        backup.back_up_database(REPO, "zmanim", ["pg_dump"], tmp_path)
    assert repository.stored == []


@pytest.mark.parametrize(("said", "fits"), [("17.12", True), ("16.9", False), ("18.1", False), ("", False)])
def test_a_pg_dump_of_another_major_version_backs_nothing_up(
    monkeypatch: pytest.MonkeyPatch, said: str, fits: bool
) -> None:
    monkeypatch.setattr(servers, "server_version", lambda server: "170012")
    monkeypatch.setattr(
        backup, "run", lambda command, **options: SimpleNamespace(stdout=f"pg_dump (PostgreSQL) {said}\n")
    )
    if fits:
        backup.check_versions()
    else:
        with pytest.raises(HostError, match="the server has major version 17: nothing was backed up"):
            backup.check_versions()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["begin"], "begin"),
        (["complete"], "complete"),
        (["thin-out"], "thin-out"),
        (["database", "zmanim", "--", "pg_dump", "-Fc"], "database zmanim pg_dump -Fc"),
        (["globals", "--", "pg_dumpall"], "globals pg_dumpall"),
        (["redis", "/data/x.rdb"], "redis /data/x.rdb"),
        (["begin", "now"], ""),
        (["database", "zmanim"], ""),
        (["redis"], ""),
        ([], ""),
    ],
)
def test_backup_sh_s_words_are_one_step_or_the_usage(
    monkeypatch: pytest.MonkeyPatch, words: list[str], expected: str
) -> None:
    done: list[str] = []
    monkeypatch.setattr(restic, "repository", lambda environ: REPO)
    monkeypatch.setattr(backup, "begin", lambda repo: done.append("begin"))
    monkeypatch.setattr(backup, "complete", lambda repo, environ: done.append("complete"))
    monkeypatch.setattr(backup, "thin_out", lambda repo: done.append("thin-out"))
    monkeypatch.setattr(
        backup, "back_up_database", lambda repo, name, command: done.append(" ".join(["database", name, *command]))
    )
    monkeypatch.setattr(backup, "back_up_globals", lambda repo, command: done.append(f"globals {' '.join(command)}"))
    monkeypatch.setattr(backup, "back_up_redis", lambda repo, file: done.append(f"redis {file}"))
    if expected:
        backup.command(words)
    else:
        with pytest.raises(HostError, match="zmanim-host backup begin"):
            backup.command(words)
    assert " ".join(done) == expected


# ---- Back out of it ----


@pytest.fixture
def scratch_servers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Scratch servers that come out as the record says; what is done to them."""
    found: list[str] = []

    @contextmanager
    def postgresql(place: Scratch) -> Iterator[Server]:
        found.append("postgresql up")
        yield place.server
        found.append("postgresql down")

    @contextmanager
    def redis(place: Scratch) -> Iterator[Callable[[str], str]]:
        found.append("redis up")
        yield lambda asked: "db0:keys=7,expires=3"
        found.append("redis down")

    def query(server: Server, database: str, sql: str, timeout: float = 60) -> list[str]:
        found.append(sql)
        return []

    monkeypatch.setattr(scratch, "postgresql", postgresql)
    monkeypatch.setattr(scratch, "redis", redis)
    monkeypatch.setattr(servers, "query", query)
    monkeypatch.setattr(servers, "survey", lambda server, name: Survey({"public.cities": 3}, {"postgis": "3.5"}))
    monkeypatch.setattr(servers, "roles", lambda server: ("postgres", "zmanim"))
    monkeypatch.setattr(servers, "rdb_keys", lambda file: Keys(4, 3, 0))
    monkeypatch.setattr(restore, "load_dump", lambda server: lambda dump: found.append("loaded"))
    return found


@pytest.fixture
def stored(repository: Repository) -> Any:
    """The record of what the repository holds."""
    repository.content = {"/globals.sql": ROLES.encode(), "/zmanim.pgdump": b"dump", "/data/backup/redis.rdb": b"RDB"}
    digest = hashlib.sha256(b"RDB").hexdigest()
    return replace(RECORD, redis=replace(RECORD.redis, sha256=digest))


def place(tmp_path: Path) -> Scratch:
    (tmp_path / "redis").mkdir()
    return Scratch(tmp_path, None)


def test_a_restore_makes_roles_then_databases_then_redis_and_stops_both(
    tmp_path: Path, stored: Any, scratch_servers: list[str]
) -> None:
    finished: list[str] = []
    keys = restore.fill(REPO, stored, place(tmp_path), lambda server: finished.append(server.socket))
    assert keys == 7
    assert finished == [str(tmp_path / "socket")]
    steps = [line for line in scratch_servers if "ROLE" not in line]
    assert steps == ["postgresql up", "loaded", "postgresql down", "redis up", "redis down"]
    # The new cluster has its superuser already.
    (roles,) = (line for line in scratch_servers if "ROLE" in line)
    assert "CREATE ROLE zmanim;" in roles
    assert "CREATE ROLE postgres;" not in roles


def test_a_restore_that_differs_from_its_record_is_none(
    tmp_path: Path, stored: Any, scratch_servers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "survey", lambda server, name: Survey({"public.cities": 2}, {"postgis": "3.5"}))
    wrong = replace(stored, redis=replace(stored.redis, lasting=5))
    with pytest.raises(HostError, match=r"cities has 2 rows, not 3; Redis has 4 keys without expiry, not 5"):
        restore.fill(REPO, wrong, place(tmp_path), lambda server: None)


def test_redis_s_file_that_is_another_than_the_record_s_is_not_loaded(
    tmp_path: Path, repository: Repository, stored: Any, scratch_servers: list[str]
) -> None:
    repository.content["/data/backup/redis.rdb"] = b"RDB2"
    with pytest.raises(HostError, match="is not the one that the record is about"):
        restore.fill(REPO, stored, place(tmp_path), lambda server: None)
    assert "redis up" not in scratch_servers


def test_a_dump_that_does_not_load_is_a_fault_with_pg_restore_s_words(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def run(command: list[str], **options: Any) -> Any:
        asked.append(command)
        return SimpleNamespace(returncode=len(asked) - 1, stderr=b"error: relation exists")

    monkeypatch.setattr(subprocess, "run", run)
    load = restore.load_dump(Server(socket="/s", role="postgres"))
    load(io.BytesIO())
    assert {"--exit-on-error", "--host=/s", "--dbname=template1"} <= set(asked[0])
    with pytest.raises(HostError, match="pg_restore: error: relation exists"):
        load(io.BytesIO())


@pytest.fixture
def restored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """A restore whose steps are only written down."""
    found: list[str] = []

    def fill(repo: object, record: Any, place: Scratch, finish: object) -> int:
        found.append(f"fill {place.directory.name}")
        return 7

    (tmp_path / "backup").mkdir()
    monkeypatch.setattr(backup, "WORK", tmp_path / "backup")
    monkeypatch.setattr(restore, "DIRECTORY", tmp_path / "backup/scratch")
    monkeypatch.setattr(backup, "now", lambda: AT + timedelta(hours=2))
    monkeypatch.setattr(restic, "repository", lambda environ: REPO)
    monkeypatch.setattr(restic, "check_reachable", lambda repo: None)
    monkeypatch.setattr(restore, "choose", lambda repo, wanted: RECORD)
    monkeypatch.setattr(restore, "installed_postgresql", lambda: "170012")
    monkeypatch.setattr(restore, "installed_redis", lambda: "7.2.1")
    monkeypatch.setattr(restore, "fill", fill)
    monkeypatch.setattr(scratch, "prepare", lambda directory: (directory.mkdir(), Scratch(directory, None))[1])
    monkeypatch.setattr(in_place, "prepare", lambda record: Scratch(tmp_path / "live", None))
    monkeypatch.setattr(in_place, "swap", lambda record, place: found.append(f"swap {place.directory.name}"))
    monkeypatch.setattr(
        metrics, "put", lambda env, region, told: found.extend(f"{one.name} {one.value:.0f}" for one in told)
    )
    return found


def test_a_drill_restores_beside_what_is_live_and_leaves_nothing(
    restored: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # What a killed one left is no obstacle.
    (tmp_path / "backup/scratch").mkdir()
    (tmp_path / "backup/scratch/half").write_text("")
    restore.command(["--latest", "--drill", "--json"])
    assert restored == ["fill scratch", "RestoreDrillSeconds 0", "RestoreDrillDataAge 7200"]
    assert list((tmp_path / "backup").iterdir()) == []
    told = json.loads(capsys.readouterr().out)
    assert (told["run"], told["rows"], told["keys"], told["age"]) == ("whole", 3, 7, 7200)


def test_what_fails_in_a_drill_is_removed_too(
    restored: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*arguments: object) -> int:
        raise HostError("is not what its record says")

    monkeypatch.setattr(restore, "fill", fill)
    with pytest.raises(HostError, match="record says"):
        restore.command(["--latest", "--drill"])
    assert restored == []
    assert list((tmp_path / "backup").iterdir()) == []


def test_only_what_is_to_be_kept_is_kept_and_only_replace_swaps(restored: list[str], tmp_path: Path) -> None:
    restore.command(["--latest", "--into-scratch", str(tmp_path / "here")])
    assert (tmp_path / "here").is_dir()
    assert restored == ["fill here"]
    restored.clear()
    restore.command(["--run", "whole", "--replace", "--yes"])
    assert restored == ["fill live", "swap live"]


def test_two_restores_at_once_are_refused(restored: list[str]) -> None:
    with restore.only_one(), pytest.raises(HostError, match="another restore is running"):
        restore.command(["--latest"])
    assert restored == []
    # And the lock is gone with its holder.
    restore.command(["--latest"])
    assert restored == ["fill scratch"]


def test_an_operator_sees_which_runs_can_be_restored(capsys: pytest.CaptureFixture[str]) -> None:
    from tests.unit.host.backup.test_restore import run  # noqa: PLC0415 - beside subprocess.run it would be hard to read

    runs = [run("old", 1), run("cut", 2, record=None), run("late", 99), run("ours", 3, record=None, adoption=True)]
    restore.show_runs(runs, AT + timedelta(days=5), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["late", "ours", "cut", "old"]
    assert [line.split()[2] for line in lines] == ["complete", "adoption", "incomplete", "complete"]
    assert ["FUTURE" in line for line in lines] == [True, False, False, False]
    restore.show_runs(runs, AT + timedelta(days=5), as_json=True)
    assert [row["state"] for row in json.loads(capsys.readouterr().out)][2] == "incomplete"
