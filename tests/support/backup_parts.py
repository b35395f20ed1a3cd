"""A repository and a database server for tests of backups: they hold what they are given, and note what is done."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Any

from zmanim_host.backup.record import CompletionRecord, DatabasePart, GlobalsPart, RedisPart
from zmanim_host.backup.restic import Repository, Stored
from zmanim_host.backup.retention import Run
from zmanim_host.host import Clock
from zmanim_host.postgres import Server, Survey

AT = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
# What pg_dumpall writes.
ROLES = """CREATE ROLE postgres;
CREATE ROLE zmanim;
ALTER ROLE zmanim WITH LOGIN;
-- PostgreSQL database cluster dump complete
"""
RECORD = CompletionRecord(
    run="whole",
    environment="prod",
    started=AT,
    finished=AT + timedelta(minutes=1),
    image_version="v1.2.3",
    instance_id="i-1",
    system_identifier="77",
    databases=(DatabasePart("zmanim", "s1", 10, {"public.cities": 3}, {"postgis": "3.5"}),),
    globals=GlobalsPart(("postgres", "zmanim"), "", ROLES),
    redis=RedisPart("s3", 7, "00", 4, 3),
    versions={"postgresql": "170012", "redis": "7.0.15"},
)
# What restic-backup.service gives to a backup.
ENVIRON = {
    "ZMANIM_ENVIRONMENT": "prod",
    "AWS_REGION": "eu-west-1",
    "INSTANCE_ID": "i-1",
    "BACKUPS_BUCKET": "backups-of-prod",
    "BACKUP_PATH": "restic",
    "RESTIC_PASSWORD_FILE": "/nowhere",
}
# The programs that say which versions are installed.
VERSIONS = {
    "pg_dump": "echo 'pg_dump (PostgreSQL) 17.12'",
    "postgres": "echo 'postgres (PostgreSQL) 17.12'",
    "redis-server": "echo 'Redis server v=7.0.15 sha=0'",
}


@dataclass(frozen=True)
class FakeRepository(Repository):
    """A repository whose runs are `known`; `content` is what is read back, `calls` what restic was asked to do."""

    environment: str = "prod"
    region: str = "eu-west-1"
    bucket: str = "b"
    location: str = "s3:https://s3/b/restic"
    known: list[Run] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)

    def restic(self, *arguments: str, **_options: Any) -> subprocess.CompletedProcess[str]:
        self.calls.append(" ".join(arguments))
        summary = {"message_type": "summary", "snapshot_id": "made", "total_bytes_processed": 9}
        return subprocess.CompletedProcess(["restic", *arguments], 0, json.dumps(summary), "")

    def check_reachable(
        self, *, connect: object = None, clock: Clock | None = None, check_clock: object = None
    ) -> None:
        """It is there."""

    def runs(self) -> list[Run]:
        return list(self.known)

    def read(self, snapshot: str, path: str) -> str:
        return self.content[path].decode()

    def read_into(self, snapshot: str, path: str, consume: Callable[[IO[bytes]], None]) -> None:
        # A real file: consumers give it to programs.
        with tempfile.TemporaryFile() as stream:
            stream.write(self.content[path])
            stream.seek(0)
            consume(stream)


@dataclass(frozen=True)
class FakeServer(Server):
    """A PostgreSQL server with one table in each database; `held` are the schemas, `queries` what it was asked."""

    surveyed: Survey = field(default_factory=lambda: Survey({"public.cities": 3}, {"postgis": "3.5"}))
    names: tuple[str, ...] = ("postgres", "zmanim")
    held: Mapping[str, str] = field(default_factory=dict)
    known_roles: tuple[str, ...] = ("postgres", "zmanim")
    queries: list[str] = field(default_factory=list)

    def environment(self, database: str = "", timeout: float = 30) -> dict[str, str]:
        return {"PGOPTIONS": f"-c deaf={database or 'everywhere'}"}

    def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
        self.queries.append(sql)
        return []

    def databases(self) -> list[str]:
        return list(self.names)

    def roles(self) -> tuple[str, ...]:
        return self.known_roles

    def system_identifier(self) -> str:
        return "77"

    def version(self) -> str:
        return "170012"

    def schema(self, database: str, snapshot: str = "") -> str:
        return self.held.get(database, "")

    def survey(self, database: str) -> Survey:
        return self.surveyed

    @contextmanager
    def exported(self, database: str, tables: str = "") -> Iterator[Survey]:
        yield Survey(self.surveyed.rows, self.surveyed.extensions, "0-1-2")
        self.queries.append("the exported snapshot ends")


@dataclass(frozen=True)
class StoringRepository(FakeRepository):
    """One that writes down what it is to store, too: tags, name, and the source."""

    stored: list[tuple[list[str], str, dict[str, Any]]] = field(default_factory=list)

    def store(self, tags: Sequence[str], *, name: str, **source: Any) -> Stored:
        self.stored.append((list(tags), name, source))
        return Stored(f"snap{len(self.stored)}", len(self.content.get(name, b"")))


def night(days: float, *, system: str = "77", complete: bool = True) -> Run:
    """A run of the backup so many days before AT."""
    name = f"{days}"
    record = f"rec{name}" if complete else None
    snapshots = (f"db{name}", f"rec{name}") if complete else (f"db{name}",)
    return Run(name, AT - timedelta(days=days), snapshots, record, False, system)


def begun(work: Path, *parts: str) -> None:
    """Leave what `begin` leaves, and parts."""
    (work / "run").mkdir()
    values: dict[str, object] = {"run": "r1", "started": "2026-11-23T03:00:00Z", "system_identifier": "77"}
    (work / "run/begun").write_text(json.dumps(values))
    for part in parts:
        (work / "run" / part).write_text(json.dumps(part_values(part)))


def part_values(name: str) -> dict[str, object]:
    """What a step leaves of its part, of whatever kind that is."""
    values: dict[str, object] = {"name": name, "snapshot": "s", "bytes": 5, "rows": {"t": 1}, "extensions": {}}
    return values | {"roles": [], "sha256": "", "lasting": 1, "expiring": 0}
