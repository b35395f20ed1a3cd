"""PostgreSQL and Redis as a backup sees them: the live servers, or scratch ones on sockets of their own."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import HostError, run

MARK = "-- that was all --"
# Tables whose rows a dump holds: an extension's own are made anew by it, unless it says that they are the user's.
_TABLES = """
SELECT format('SELECT json_build_array(''rows'', %L, count(*)) FROM ONLY %I.%I',
              format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' AND NOT EXISTS (
      SELECT FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS u (config, condition)
      WHERE u.config = c.oid AND u.condition = ''))
ORDER BY 1 \\gexec
SELECT json_build_array('extension', extname, extversion) FROM pg_extension ORDER BY extname;
"""
# The whole session may idle as long as the dump takes, which postgresql.conf would end after five minutes.
_EXPORT = """
SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT json_build_array('snapshot', pg_export_snapshot(), '');
"""
_KEYS = re.compile(r"^\[info\] (\d+) (keys read|expires|already expired)$", re.MULTILINE)


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server: the directory of its socket, the role to be, and the system user to be (None: ourselves)."""

    socket: str = "/run/postgresql"
    role: str = "zmanim_backup"
    user: str | None = None


@dataclass(frozen=True)
class Survey:
    """What is in a database: rows by table, extensions' versions by name, and the exported snapshot if it was."""

    rows: Mapping[str, int]
    extensions: Mapping[str, str]
    snapshot: str = ""


@dataclass(frozen=True)
class Keys:
    """What an RDB file holds: keys that never expire, keys that do, and those of them whose time is over."""

    lasting: int
    expiring: int
    expired: int


def psql_command(server: Server, database: str) -> list[str]:
    """Return psql's command line; names and values go in by stdin."""
    command = ["psql", "--no-psqlrc", "--no-password", "--quiet", "--no-align", "--tuples-only"]
    return [*command, "--set=ON_ERROR_STOP=1", *connection(server, database)]


def connection(server: Server, database: str) -> list[str]:
    """Return the arguments that connect psql, pg_restore and their like."""
    return [f"--host={server.socket}", f"--username={server.role}", f"--dbname={database}"]


def query(server: Server, database: str, sql: str, timeout: float = 60) -> list[str]:
    """Return the rows of some SQL as lines. Raises HostError."""
    environment = {"PGOPTIONS": "--client-min-messages=warning", "PGCONNECT_TIMEOUT": "5"}
    done = run(
        psql_command(server, database), timeout=timeout, user=server.user, environment=environment, input=sql + "\n"
    )
    return done.stdout.splitlines()


def databases(server: Server) -> list[str]:
    """Return the names of all databases but templates; HostError for a name that a list of lines can't hold."""
    sql = "SELECT to_json(datname::text) FROM pg_database WHERE datallowconn AND NOT datistemplate ORDER BY datname;"
    names = [str(json.loads(line)) for line in query(server, "postgres", sql)]
    odd = [name for name in names if not name.isprintable() or "/" in name or name.startswith("-")]
    if odd:
        raise HostError(f"the databases {odd} have names that can't be backed up")
    return names


def roles(server: Server) -> tuple[str, ...]:
    """Return the roles' names without PostgreSQL's own."""
    sql = "SELECT to_json(rolname::text) FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname;"
    return tuple(str(json.loads(line)) for line in query(server, "postgres", sql))


def system_identifier(server: Server) -> str:
    """Return the cluster's own name, which initdb made."""
    return query(server, "postgres", "SELECT system_identifier FROM pg_control_system();")[0]


def server_version(server: Server) -> str:
    """Return PostgreSQL's version as a number, such as 170012."""
    return query(server, "postgres", "SHOW server_version_num;")[0]


def survey(server: Server, database: str, timeout: float = 3600) -> Survey:
    """Count what is in a database. Raises HostError."""
    return parse_survey(query(server, database, _TABLES, timeout))


@contextmanager
def exported(server: Server, database: str) -> Iterator[Survey]:
    """Count what is in a database in one exported snapshot, which stays good for the body of the `with`.

    Raises HostError.
    """
    with subprocess.Popen(
        psql_command(server, database),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    ) as session:
        assert session.stdin
        assert session.stdout
        assert session.stderr
        try:
            session.stdin.write(f"{_EXPORT}{_TABLES}\\echo '{MARK}'\n")
            session.stdin.flush()
        except BrokenPipeError:
            # psql ended without listening, and says why on stderr. Closed here, or the `with` would try to write again.
            with suppress(BrokenPipeError):
                session.stdin.close()
        lines = []
        for line in session.stdout:
            if line.rstrip("\n") == MARK:
                break
            lines.append(line)
        else:
            raise HostError(f"the database {database} can't be read: {session.stderr.read().strip()[-1500:]}")
        try:
            yield parse_survey(lines)
        finally:
            session.stdin.close()


def parse_survey(lines: Sequence[str]) -> Survey:
    """Return the survey from the rows of its SQL."""
    rows: dict[str, int] = {}
    extensions: dict[str, str] = {}
    snapshot = ""
    for line in lines:
        kind, name, value = json.loads(line)
        if kind == "rows":
            rows[name] = value
        elif kind == "extension":
            extensions[name] = value
        else:
            snapshot = name
    return Survey(rows, extensions, snapshot)


def rdb_keys(file: Path) -> Keys:
    """Return what an RDB file holds; HostError when redis-check-rdb finds it damaged or cut short."""
    done = run(["redis-check-rdb", str(file)], timeout=1800, may_exit=range(-64, 256))
    found = {what: int(number) for number, what in _KEYS.findall(done.stdout)}
    if done.returncode or len(found) != 3:
        raise HostError(f"{file.name} is no whole snapshot of Redis: {done.stdout.strip()[-1000:]}")
    return Keys(found["keys read"] - found["expires"], found["expires"], found["already expired"])
