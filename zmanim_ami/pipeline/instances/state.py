"""How an instance does, as it says itself by Run Command."""

from __future__ import annotations

import base64
import binascii
import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zmanim_ami.pipeline import aws, run_command
from zmanim_ami.pipeline.backup import remote

_SCRIPT = Path(__file__).with_name("state.sh")
_SECONDS = 120.0


@dataclass(frozen=True)
class State:
    """What an instance says of itself; None is what it can't say.

    `release` is that of its API, `ready` the report of its boot and `serving` that of the last minute (readiness.py and
    monitoring/serving.py in the image). `used_percent` is of the data volume. `database` is the same for two images of
    which neither changed the database for the other. `busy` is true while a backup or a restore runs. `backups` are the
    runs in its repository, the newest first.
    """

    release: str
    ready: Mapping[str, Any] | None
    serving: Mapping[str, Any] | None
    used_percent: int | None
    database: str
    busy: bool
    backups: tuple[remote.BackupRun, ...] | None


def ask(clients: aws.Clients, instance_id: str, poller: aws.Poller, *, backups: bool = False) -> run_command.Command:
    """Ask an instance; `told` gives its answer. Raises run_command.CommandNotRun, aws's errors."""
    script = f"set -- {'backups' if backups else ''}\n{_SCRIPT.read_text('utf-8')}"
    return run_command.start(clients, instance_id, script, _SECONDS, poller)


def told(clients: aws.Clients, question: run_command.Command, poller: aws.Poller) -> State:
    """Return what an instance answers. Raises run_command.CommandNotRun, remote.AnswerUnreadable, aws's errors."""
    return read(run_command.finish(clients, question, poller))


def read(text: str) -> State:
    """Return what the script printed. Raises remote.AnswerUnreadable."""
    values = dict(line.strip().partition(" ")[::2] for line in text.splitlines())
    try:
        if "end" not in values:
            raise ValueError("the end is missing")
        runs = values.get("backups")
        return State(
            release=values["release"],
            ready=_object(values.get("ready")),
            serving=_object(values.get("serving")),
            used_percent=int(values["used-percent"]) if "used-percent" in values else None,
            database=values.get("database", ""),
            busy=values.get("busy") == "yes",
            backups=None if runs is None else remote.read_runs(gzip.decompress(_decoded(runs)).decode()),
        )
    except (ValueError, KeyError, TypeError, OSError, EOFError, zlib.error) as error:
        raise remote.unreadable(text) from error


def _object(encoded: str | None) -> Mapping[str, Any] | None:
    return dict(json.loads(_decoded(encoded))) if encoded else None


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(str(error)) from error
