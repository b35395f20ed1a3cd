"""The completion record: what one run of the backup holds, as JSON in a snapshot of its own.

It is stored after every part of a run; only a proof may follow it. A run without it was cut short, and is never
restored.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta, timezone
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from zmanim_host.host import HostError

# The roles were a part of their own in format 1.
FORMAT, KNOWN = 2, (1, 2)
TIME = "%Y-%m-%dT%H:%M:%SZ"

# A record is stored soon after it says that its run is finished; one that is further away was dated anew.
REDATED = timedelta(hours=1)

Kind = TypeVar("Kind")


@dataclass(frozen=True)
class DatabasePart:
    """A database's dump: its snapshot, its length, and what was in the database when it was taken.

    `rows` counts each table whose rows the dump holds, by its quoted name (schema.table); `extensions` are their
    versions by name. `superusers` is what only a superuser can have made, which no restore brings back. `schema` is the
    SHA-256 of all but the rows (empty: of an image that did not take it).
    """

    name: str
    snapshot: str
    bytes: int
    rows: Mapping[str, int]
    extensions: Mapping[str, str]
    superusers: tuple[str, ...] = ()
    schema: str = ""


@dataclass(frozen=True)
class GlobalsPart:
    """The roles, by `pg_dumpall --globals-only`; `roles` are their names without PostgreSQL's own.

    `sql` is what it wrote, `sha256` the digest of that (empty: of an image that did not take it). In format 1 `sql` is
    in a snapshot.
    """

    roles: tuple[str, ...]
    sha256: str = ""
    sql: str = ""
    snapshot: str = ""


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
    """One complete run. Times are UTC; `system_identifier` is PostgreSQL's own name of the cluster, made by initdb.

    `volume` is the EBS volume that the cluster is on; empty in a record of an image that did not know it.
    """

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
    volume: str = ""


def located(record: CompletionRecord, parts: Mapping[str, str], at: datetime) -> CompletionRecord:
    """Return a record as its run is in the repository: with the snapshots of its parts, by their tags, and its time.

    Dating a snapshot anew gives it another id: what the record was written with names nothing any longer.
    """
    moved = at - record.finished
    if abs(moved) < REDATED:
        moved = timedelta()
    return replace(
        record,
        started=record.started + moved,
        finished=record.finished + moved,
        databases=tuple(
            replace(part, snapshot=parts.get(f"database={part.name}", part.snapshot)) for part in record.databases
        ),
        globals=replace(record.globals, snapshot=parts.get("globals", record.globals.snapshot)),
        redis=replace(record.redis, snapshot=parts.get("redis", record.redis.snapshot)),
    )


def to_json(record: CompletionRecord) -> str:
    """Return the record as JSON."""
    times = {"started": record.started.strftime(TIME), "finished": record.finished.strftime(TIME)}
    return json.dumps({**asdict(record), **times, "format": FORMAT}, indent=1, sort_keys=True) + "\n"


def from_json(text: str) -> CompletionRecord:
    """Return the record; HostError when it is of another format, torn, or no record at all."""
    try:
        values = json.loads(text)
        if values["format"] not in KNOWN:
            raise HostError(f"the completion record has format {values['format']!r}: it was made by a newer image")
        return parse(CompletionRecord, values)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise HostError(f"the completion record can't be understood ({error!r})") from None


def parse(kind: type[Kind], value: Any) -> Kind:
    """Return parsed JSON as one of the classes above, or as what they are made of.

    What has a default may be missing: older records lack it.
    Raises KeyError, TypeError, ValueError or AttributeError when it is anything else.
    """
    made: Any = value
    arguments = get_args(kind)
    if is_dataclass(kind):
        optional = {each.name for each in fields(kind) if each.default is not MISSING}
        hints = {name: hint for name, hint in get_type_hints(kind).items() if name in value or name not in optional}
        made = kind(**{name: parse(hint, value[name]) for name, hint in hints.items()})
    elif get_origin(kind) is tuple:
        made = tuple(parse(arguments[0], each) for each in value)
    elif arguments:  # a mapping
        made = {parse(str, name): parse(arguments[1], each) for name, each in value.items()}
    elif kind is datetime:
        made = datetime.strptime(value, TIME).replace(tzinfo=timezone.utc)
    # A number is a count here. A bool is an int to isinstance.
    elif type(value) is not kind or (isinstance(value, int) and value < 0):
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return cast(Kind, made)
