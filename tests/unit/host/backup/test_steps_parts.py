"""Each part of a backup is read back out of the repository before it counts."""

from __future__ import annotations

import hashlib
import json
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.backup_parts import (
    AT,
    ROLES,
    VERSIONS,
    FakeRepository,
    FakeServer,
    StoringRepository,
    begun,
    part_values,
)
from tests.support.programs import arguments, on_path
from zmanim_host.backup import steps
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.steps import Backup
from zmanim_host.host import Clock, HostError
from zmanim_host.postgres import Server

# What pg_restore writes of a table with three rows.
ROWS = "printf 'COPY public.cities (id, name) FROM stdin;\\n1\\t\\\\\\\\.\\n2\\tb\\n3\\tc\\n\\\\.\\n'"
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
    here = on_path(tmp_path / "programs", monkeypatch, {"pg_restore": f'cat >"${{HERE}}/dump"; {ROWS}'})
    repository.content["/zmanim.pgdump"] = b"dump"
    backup.back_up_database("zmanim", ["pg_dump", "zmanim"])
    ((tags, name, source),) = repository.stored
    assert (tags, name) == (["run:r1", "part:database=zmanim"], "/zmanim.pgdump")
    assert source["command"] == ["pg_dump", "zmanim", "--snapshot=0-1-2"]
    assert source["environment"] == {"PGOPTIONS": "-c deaf=zmanim"}
    assert (here / "dump").read_text() == "dump"
    assert arguments(here, "pg_restore") == [["--data-only", "--file=-"]]
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
    with pytest.raises(HostError, match=r"in the repository is not whole: .*unexpected end of file"):
        backup.back_up_database("zmanim", ["pg_dump"])
    assert not (backup.work / "run/database=zmanim").exists()


def test_roles_are_kept_for_the_record_only_when_their_script_is_whole(
    repository: StoringRepository, backup: Backup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {"pg_dumpall": 'echo "${PGOPTIONS}" >"${HERE}/options"; cat "$1"'}
    here = on_path(tmp_path / "programs", monkeypatch, programs)

    def digest(script: str) -> str:
        (tmp_path / "script").write_text(script)
        backup.back_up_globals(["pg_dumpall", str(tmp_path / "script")])
        assert part(backup, "globals")["sql"] == script
        return str(part(backup, "globals")["sha256"])

    with pytest.raises(HostError, match="are not whole"):
        digest(ROLES[:30])
    assert not (backup.work / "run/globals").exists()
    # A word that is another one each night is nothing new.
    digests = {digest(f"\\restrict {word}\n{ROLES}\n\\unrestrict {word}\n") for word in ("aB3", "cD4")}
    assert len(digests) == 1
    assert digest(f"{ROLES}GRANT pg_monitor TO zmanim;\n") not in digests
    assert part(backup, "globals")["roles"] == ["postgres", "zmanim"]
    assert (here / "options").read_text() == "-c deaf=everywhere\n"
    assert repository.stored == []


# What pg_dump says of the database postgres while it holds nothing.
NOTHING = """
\\restrict aB3
SET client_encoding = 'UTF8';
SELECT pg_catalog.set_config('search_path', '', false);
\\unrestrict aB3
"""


@pytest.mark.parametrize(
    "held",
    [
        (NOTHING, [], False),
        (f"{NOTHING}CREATE FUNCTION public.f() RETURNS int LANGUAGE sql AS 'SELECT 1';", [], True),
        (f"{NOTHING}GRANT SELECT ON TABLE pg_catalog.pg_authid TO zmanim;", [], True),
        # Large objects are in no schema.
        (NOTHING, ["4711"], True),
    ],
)
def test_postgresql_s_own_database_is_a_part_only_while_it_holds_something(
    repository: StoringRepository,
    backup: Backup,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    held: tuple[str, list[str], bool],
) -> None:
    schema, objects, stored = held

    class Holding(FakeServer):
        def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
            return objects if "SELECT oid FROM pg_largeobject_metadata" in sql else []

    on_path(tmp_path / "programs", monkeypatch, {**VERSIONS, "pg_restore": "cat >/dev/null", "aws": ""})
    repository.content["/postgres.pgdump"] = b"dump"
    ours = replace(backup, server=Holding(held={"postgres": schema}))
    ours.back_up_database("postgres", ["pg_dump"])
    assert [name for _, name, _ in repository.stored] == (["/postgres.pgdump"] if stored else [])
    # Looked at it is in any case: without that the run is not complete.
    for each in ("globals", "redis", "database=zmanim"):
        (ours.work / "run" / each).write_text(json.dumps(part_values(each)))
    with pytest.raises(HostError, match="postgres: all of it") if stored else nullcontext():
        ours.complete()
    record = json.loads(repository.stored[-1][2]["text"])
    assert len(record["databases"]) == (2 if stored else 1)


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


class Reachable(Repository):
    """A repository whose S3 is there, and restic a program on PATH."""

    def check_reachable(
        self, *, connect: object = None, clock: Clock | None = None, check_clock: object = None
    ) -> None:
        pass


RESTIC = """
case $1 in
snapshots) echo '[]' ;;
backup) cat >/dev/null; echo '{"message_type": "summary", "snapshot_id": "s", "total_bytes_processed": 9}' ;;
dump) cat "$5" 2>/dev/null || true ;;
esac
"""


@pytest.mark.incident("verifying an image took a third of its time to start restic, which is emulated in a rehearsal")
def test_a_run_starts_restic_no_more_often_than_it_has_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = {**VERSIONS, "restic": RESTIC, "pg_restore": "cat >/dev/null", "pg_dumpall": f"cat <<'END'\n{ROLES}END"}
    here = on_path(tmp_path / "programs", monkeypatch, {**programs, "redis-check-rdb": KEYS, "aws": ""})
    (tmp_path / "work").mkdir()
    repository = Reachable("prod", "eu-west-1", "b", "s3:https://s3/b/restic")
    ours = Backup(repository, "i-1", FakeServer(), tmp_path / "work", lambda: AT)
    for database in ours.begin():
        ours.back_up_database(database, ["pg_dump"])
    ours.back_up_globals(["pg_dumpall"])
    (tmp_path / "work/redis.rdb").write_text("REDIS")
    ours.back_up_redis(tmp_path / "work/redis.rdb")
    ours.complete()
    of_a_part = ["backup", "dump"]
    verbs = ["snapshots", *of_a_part, *of_a_part, "snapshots", "backup"]
    assert [call[0] for call in arguments(here, "restic")] == verbs, "the list; a database, Redis; the record"


@dataclass(frozen=True)
class Steps(Backup):
    """A backup whose steps are only written down."""

    done: list[str] = field(default_factory=list)

    def begin(self) -> list[str]:
        self.done.append("begin")
        return ["postgres", "zmanim"]

    def complete(self) -> None:
        self.done.append("complete")

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


def test_databases_are_listed_line_by_line_as_a_run_begins(capsys: pytest.CaptureFixture[str]) -> None:
    steps.run_step(Steps(FakeRepository(), "i-1"), ["begin"])
    assert capsys.readouterr().out == "postgres\nzmanim\n"
