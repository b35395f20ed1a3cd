"""Loading a run: the order, whose sessions what is run in, what is compared, and what is refused first."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO

import pytest

from tests.support.backup_parts import RECORD, ROLES, FakeServer, StoringRepository
from tests.support.programs import SANDBOX, arguments, on_path
from zmanim_host.backup import restore
from zmanim_host.backup.record import CompletionRecord
from zmanim_host.backup.restore import Filled
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import HostError
from zmanim_host.postgres import Server, Survey
from zmanim_host.storage.redis_files import Keys

LIST = "238; 1259 17953 TABLE public cities zmanim\n4512; 0 17887 TABLE DATA public cities zmanim\n"
SCHEMA = """
CREATE DATABASE zmanim WITH TEMPLATE = template0 ENCODING = 'UTF8';
ALTER DATABASE zmanim OWNER TO zmanim;
CREATE TABLE public.cities (n integer);
ALTER TABLE public.cities OWNER TO zmanim;
"""
# What pg_restore answers: the list, the schema, or nothing when it loads.
PG_RESTORE = f"""
case "$*" in
*--list*) cat >"${{HERE}}/head"; printf '{LIST.encode("unicode_escape").decode()}' ;;
*--schema-only*) cat >/dev/null; cat <<'END'
{SCHEMA}
END
;;
*) cat >"${{HERE}}/loaded" ;;
esac
"""


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

    def receive(self, stream: IO[bytes]) -> str:
        return hashlib.sha256(stream.read()).hexdigest()

    def keys(self) -> Keys:
        return Keys(4, 3, 0)


@pytest.fixture
def repository() -> StoringRepository:
    return StoringRepository()


@pytest.fixture
def stored(repository: StoringRepository) -> CompletionRecord:
    """The record of what the repository holds."""
    files = {"/zmanim.pgdump": b"dump", "/data/backup/redis.rdb": b"RDB"}
    repository.content.update(files)
    digest = hashlib.sha256(b"RDB").hexdigest()
    return replace(RECORD, redis=replace(RECORD.redis, sha256=digest))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeScratch:
    programs = {**SANDBOX, "pg_restore": PG_RESTORE, "pg_dump": f"cat <<'END'\n{SCHEMA}\nEND"}
    on_path(tmp_path / "programs", monkeypatch, programs)
    return FakeScratch(tmp_path)


def test_a_restore_makes_roles_then_databases_then_redis_and_stops_both(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, tmp_path: Path
) -> None:
    def finish(_: Scratch, server: Server) -> None:
        assert server.socket == str(tmp_path / "socket")
        place.done.append("loaded")

    assert restore.fill(repository, stored, place, finish) == Filled(7, schema_compared=True)
    marks = [line for line in place.done if line.endswith((" up", " down", "loaded"))]
    assert marks == ["postgresql up", "loaded", "postgresql down", "redis up", "redis down"]
    made = "\n".join(place.done)
    assert made.index('CREATE ROLE "zmanim"') < made.index('CREATE DATABASE "zmanim"')
    assert "CREATE ROLE postgres" not in made
    assert 'CREATE ROLE "postgres"' not in made, "the new cluster has its superuser already"


@pytest.mark.incident("the superuser loaded dumps: what others wrote into them ran as the superuser")
def test_a_dump_is_loaded_as_its_owner_from_its_first_byte_to_its_last(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, tmp_path: Path
) -> None:
    repository.content["/zmanim.pgdump"] = dump = os.urandom(3 << 20)
    restore.fill(repository, stored, place, None)
    programs = tmp_path / "programs"
    loading = [call for call in arguments(programs, "pg_restore") if "--no-owner" in call]
    assert [[word for word in call if word.startswith("--username=")] for call in loading] == [["--username=zmanim"]]
    assert {"--exit-on-error", "--no-privileges", "--dbname=zmanim"} <= set(loading[0])
    assert (programs / "loaded").read_bytes() == dump


@dataclass(frozen=True)
class Sessions(FakeServer):
    """A server that writes down whose session each statement is run in."""

    asked: list[tuple[str, str]] = field(default_factory=list)

    def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
        self.asked.append((self.role, sql))
        return super().query(database, sql, timeout)


GIVEN = """
ALTER TABLE public.files OWNER TO clerk;
GRANT SELECT ON TABLE public.files TO zmanim;
REVOKE CONNECT ON DATABASE zmanim FROM PUBLIC;
ALTER ROLE clerk IN DATABASE zmanim SET work_mem TO '5MB';
"""


@pytest.mark.incident("a function that was called in the superuser's session said RESET ROLE and was the superuser")
def test_what_is_run_for_somebody_is_run_in_a_session_of_his_own(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema = SCHEMA + GIVEN
    programs = {"pg_restore": PG_RESTORE.replace(SCHEMA, schema), "pg_dump": f"cat <<'END'\n{schema}\nEND"}
    on_path(place.directory / "more", monkeypatch, programs)
    names = ("clerk", "postgres", "zmanim")
    sql = f"ALTER ROLE clerk SET search_path TO 'a';{ROLES}"
    server = Sessions(role="postgres", known_roles=names)
    record = replace(stored, globals=replace(stored.globals, roles=names, sql=sql))
    restore.fill(repository, record, replace(place, fake=server), None)
    whole = "\n".join(sql for _, sql in server.asked).lower()
    assert not [word for word in ("set role", "reset role", "session authorization") if word in whole]
    whose = {
        words: role
        for role, sql in server.asked
        for words in ("owner to", "grant select", "revoke connect", "set work_mem", "set search_path")
        if words in sql
    }
    assert whose == {
        "owner to": "zmanim_restore",
        "grant select": "clerk",
        "revoke connect": "zmanim",
        "set work_mem": "clerk",
        "set search_path": "clerk",
    }


@pytest.mark.incident("a restored cluster had another superuser, and came out as recorded")
def test_a_cluster_with_a_superuser_that_nobody_made_is_not_handed_over(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch
) -> None:
    class Taken(FakeServer):
        def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
            return ['["role", "eyes1", "superuser"]'] if "rolsuper" in sql else []

    handed: list[Server] = []
    with pytest.raises(HostError, match="what nobody gave to it: role eyes1 superuser"):
        restore.fill(repository, stored, replace(place, fake=Taken()), lambda _, server: handed.append(server))
    assert handed == []


def test_a_restore_that_differs_from_its_record_is_none(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch
) -> None:
    differs = replace(place, fake=FakeServer(surveyed=Survey({"public.cities": 2}, {"postgis": "3.5"})))
    wrong = replace(stored, redis=replace(stored.redis, lasting=5))
    with pytest.raises(HostError, match=r"cities has 2 rows, not 3; .*Redis has 4 keys without expiry, not 5"):
        restore.fill(repository, wrong, differs, None)


def test_a_schema_that_is_not_the_run_s_is_a_difference_with_its_statement(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = SCHEMA.replace("cities OWNER TO zmanim", "cities OWNER TO postgres")
    on_path(place.directory / "more", monkeypatch, {"pg_dump": f"cat <<'END'\n{other}\nEND"})
    with pytest.raises(HostError, match=r"the schema of zmanim lacks: alter table public \. cities owner to zmanim"):
        restore.fill(repository, stored, place, None)


def test_another_version_of_postgresql_may_say_a_schema_in_other_words(
    repository: StoringRepository,
    stored: CompletionRecord,
    place: FakeScratch,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    other = SCHEMA.replace("n integer", "n int4")
    on_path(place.directory / "more", monkeypatch, {"pg_dump": f"cat <<'END'\n{other}\nEND"})
    older = replace(stored, versions={**stored.versions, "postgresql": "170006"})
    assert not restore.fill(repository, older, place, None).schema_compared
    assert "lacks: create table public . cities ( n integer ) (the run is of another version" in capsys.readouterr().err


def test_redis_s_file_that_is_another_than_the_record_s_is_not_loaded(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch
) -> None:
    repository.content["/data/backup/redis.rdb"] = b"RDB2"
    with pytest.raises(HostError, match="is not the one that the record is about"):
        restore.fill(repository, stored, place, None)
    assert "redis up" not in place.done


def test_a_dump_that_does_not_load_is_an_error_with_pg_restore_s_words(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = PG_RESTORE.replace('cat >"${HERE}/loaded"', "echo 'error: relation exists' >&2; exit 1")
    on_path(place.directory / "more", monkeypatch, {"pg_restore": fails})
    with pytest.raises(HostError, match="loading zmanim: exit code 1: error: relation exists"):
        restore.fill(repository, stored, place, None)


@pytest.mark.parametrize("name", ["template1", "dbname=zmanim user=postgres", "postgresql://host/x", "-x", "a/b", ""])
def test_a_database_whose_name_could_be_something_else_is_refused(
    repository: StoringRepository, stored: CompletionRecord, place: FakeScratch, name: str
) -> None:
    forged = replace(stored, databases=(replace(stored.databases[0], name=name),))
    with pytest.raises(HostError, match="no restore makes that"):
        restore.fill(repository, forged, place, None)
