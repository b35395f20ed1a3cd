"""The completion record: what one run of the backup holds, as JSON in a snapshot of its own.

It is the last snapshot of a run. A run without it was cut short, and is never restored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from typing import Any

from zmanim_host.host import HostError

FORMAT = 1
TIME = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True)
class DatabasePart:
    """A database's dump: its snapshot, its length, and what was in the database when it was taken.

    `rows` counts each table whose rows the dump holds, by its quoted name (schema.table); `extensions` are their
    versions by name.
    """

    name: str
    snapshot: str
    bytes: int
    rows: Mapping[str, int]
    extensions: Mapping[str, str]


@dataclass(frozen=True)
class GlobalsPart:
    """The roles, by `pg_dumpall --globals-only`; `roles` are their names without PostgreSQL's own."""

    snapshot: str
    bytes: int
    roles: tuple[str, ...]


@dataclass(frozen=True)
class RedisPart:
    """Redis's snapshot file: its digest, and how many keys never expire (`lasting`) and how many do (`expiring`)."""

    snapshot: str
    bytes: int
    sha256: str
    lasting: int
    expiring: int


@dataclass(frozen=True)
class CompletionRecord:
    """One complete run. Times are UTC; `system_identifier` is PostgreSQL's own name of the cluster, made by initdb."""

    run: str
    environment: str
    started: datetime
    finished: datetime
    image_version: str
    instance_id: str
    system_identifier: str
    databases: tuple[DatabasePart, ...]
    globals: GlobalsPart
    redis: RedisPart
    versions: Mapping[str, str]


def part_to_json(part: DatabasePart | GlobalsPart | RedisPart) -> str:
    """Return one part as JSON, for the step that puts the record together."""
    return json.dumps(asdict(part), sort_keys=True)


def to_json(record: CompletionRecord) -> str:
    """Return the record as JSON."""
    times = {"started": record.started.strftime(TIME), "finished": record.finished.strftime(TIME)}
    return json.dumps({**asdict(record), **times, "format": FORMAT}, indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> CompletionRecord:
    """Return the record; HostError when it is of another format, torn, or no record at all."""
    try:
        values = json.loads(text)
        if values["format"] != FORMAT:
            raise HostError(f"the completion record has format {values['format']!r}: it was made by a newer image")
        return CompletionRecord(
            run=_text(values["run"]),
            environment=_text(values["environment"]),
            started=_time(values["started"]),
            finished=_time(values["finished"]),
            image_version=_text(values["image_version"]),
            instance_id=_text(values["instance_id"]),
            system_identifier=_text(values["system_identifier"]),
            databases=tuple(database_part(part) for part in values["databases"]),
            globals=globals_part(values["globals"]),
            redis=redis_part(values["redis"]),
            versions=_texts(values["versions"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"the completion record can't be understood ({error!r})") from None


def database_part(values: Mapping[str, Any]) -> DatabasePart:
    """Return a part from parsed JSON; KeyError, TypeError or ValueError when it is none."""
    rows = {_text(name): _count(value) for name, value in values["rows"].items()}
    return DatabasePart(
        _text(values["name"]), _text(values["snapshot"]), _count(values["bytes"]), rows, _texts(values["extensions"])
    )


def globals_part(values: Mapping[str, Any]) -> GlobalsPart:
    """Return a part from parsed JSON; KeyError, TypeError or ValueError when it is none."""
    roles = tuple(_text(role) for role in values["roles"])
    return GlobalsPart(_text(values["snapshot"]), _count(values["bytes"]), roles)


def redis_part(values: Mapping[str, Any]) -> RedisPart:
    """Return a part from parsed JSON; KeyError, TypeError or ValueError when it is none."""
    return RedisPart(
        _text(values["snapshot"]),
        _count(values["bytes"]),
        _text(values["sha256"]),
        _count(values["lasting"]),
        _count(values["expiring"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _texts(value: Any) -> dict[str, str]:
    return {_text(name): _text(text) for name, text in value.items()}


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise TypeError(f"{value!r} is no count")
    return value


def _time(value: Any) -> datetime:
    return datetime.strptime(_text(value), TIME).replace(tzinfo=timezone.utc)
