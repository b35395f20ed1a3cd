"""A release's migrations: each in one transaction together with its row in schema_migrations."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from zmanim_host.host import WARNING, HostError, log
from zmanim_host.postgres import Server
from zmanim_host.release import migration_files
from zmanim_host.release.store import Store

DIRECTORY = Path("/opt/zmanim/current/migrations")
NAME = re.compile(r"(\d{14})_[a-z0-9_]+\.sql")
# PostgreSQL's default, whatever is set for the database: the same migration makes the same tables everywhere.
SEARCH_PATH = '"$user", public'
TABLE = (
    "CREATE TABLE IF NOT EXISTS public.schema_migrations"
    " (version text PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT now())"
)
# One transaction: psql's -1. The first row says afterwards whether the transaction of one that failed is gone, which
# psql can't: it is there only where a migration has ended the transaction, which migration_files.py is to refuse.
STEPS = r"""
INSERT INTO public.schema_migrations (version) VALUES ('unfinished ' || :'version') ON CONFLICT DO NOTHING;
\i :file
DELETE FROM public.schema_migrations WHERE version = 'unfinished ' || :'version';
INSERT INTO public.schema_migrations (version) VALUES (:'version');
"""
REMAINS = "SELECT version FROM public.schema_migrations WHERE version = 'unfinished ' || :'version';\n"


def version_of(name: str) -> str:
    """Return what schema_migrations calls the migration: its file name without .sql; HostError for any other name."""
    if not NAME.fullmatch(name):
        raise HostError(f"{name} is not a migration's name (14 digits, _, a-z 0-9 _, .sql)")
    return name[: -len(".sql")]


def pending(names: Iterable[str], applied: Iterable[str]) -> list[str]:
    """Return the file names that have not been applied, in their order.

    A row may hold the whole name or only the 14 digits: both have been written by tools of this project's past.
    """
    done = set(applied)
    return [name for name in sorted(names) if not {version_of(name), name[:14]} & done]


def migrate(directory: Path, server: Server, *, may_change: bool = True) -> Sequence[str]:
    """Apply what is pending and return its names; without `may_change` only say what would be.

    Raises HostError that names the failing migration; its transaction leaves the database as it was, or the text says
    that it did not. Nothing is applied when any pending one could not be that one transaction.
    """
    names = [path.name for path in directory.glob("*.sql")]
    if not names:
        raise HostError(f"there is no migration in {directory}: the release is not whole")
    make = [f"--command={TABLE}"] if may_change else []
    applied = server.psql(*make, "--command=SELECT version FROM public.schema_migrations", timeout=60)
    todo = pending(names, applied.split("\n"))
    if todo and not may_change:
        log(f"not applied, because an automatic rollback runs no SQL: {', '.join(todo)}", WARNING)
        return []
    migration_files.check({name: (directory / name).read_bytes() for name in todo})
    for name in todo:
        log(f"applying {name}")
        _apply(directory / name, server)
    log(f"{len(todo)} migrations applied, {len(names) - len(todo)} were applied before")
    return todo


def _apply(file: Path, server: Server) -> None:
    variables = (f"--set=version={version_of(file.name)}", f"--set=file={file}")
    try:
        server.psql("--single-transaction", "--file=-", *variables, input=STEPS, timeout=900)
    except HostError as error:
        raise HostError(f"the migration {file.name} failed and {_outcome(server, *variables)}: {error}") from error


def _outcome(server: Server, *variables: str) -> str:
    """Return what has become of the transaction of a migration that failed."""
    try:
        remains = server.psql("--file=-", *variables, input=REMAINS, timeout=60)
    except HostError as error:
        return f"whether it was rolled back can't be asked ({error})"
    if not remains.strip():
        return "was rolled back"
    return (
        "had ended its own transaction, so HALF OF IT IS THERE: undo that by hand, or publish one that goes on from it"
    )


def command() -> None:
    """Apply the release's pending migrations."""
    status = Store().read_status()
    migrate(DIRECTORY, Server(search_path=SEARCH_PATH), may_change=status is None or status.run_migrations)
