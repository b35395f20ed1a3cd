"""A PostgreSQL server: this machine's, or one on a socket of its own; always asked by psql, the same way everywhere."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from zmanim_host import sessions
from zmanim_host.host import ANSWER_SECONDS, HostError, run

END = "-- end of the survey --"
# The API's own database: its owner is the role of the same name, and no run of the backup is complete without it.
APPLICATION = "zmanim"
# PostgreSQL's own database, which the API's role can't change and may not connect to: what is set there is ours.
HOME = "postgres"
SUPERUSER = "postgres"
# initdb's own: the image makes them, and nobody but a superuser may write there.
_TEMPLATES = ("template0", "template1")
# What `DROP DATABASE` leaves in datconnlimit when it is cut short (DATCONNLIMIT_INVALID_DB).
_INVALID = -2
# Tables whose rows a dump holds: an extension's own are made anew by it, unless it says that they are the user's.
_DUMPED = """
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'
  AND NOT EXISTS (
    SELECT FROM pg_depend d
    WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e' AND NOT EXISTS (
      SELECT FROM pg_extension e, unnest(e.extconfig, e.extcondition) AS u (config, condition)
      WHERE u.config = c.oid AND u.condition = ''))
"""
_EXTENSIONS = """
SELECT json_build_array('extension', extname, extversion) FROM pg_extension ORDER BY extname;
"""
_COUNT = """
SELECT format('SELECT json_build_array(''rows'', %L, count(*)) FROM ONLY %I.%I',
              format('%I.%I', n.nspname, c.relname), n.nspname, c.relname)
"""
_TABLES = _COUNT + _DUMPED + "ORDER BY 1 \\gexec" + _EXTENSIONS
# Their names alone: planning a query evaluates functions in a table's indexes, as whoever asks. Nobody counts but the
# owner; what a dump holds is counted in the dump.
_NAME = "SELECT json_build_array('rows', format('%I.%I', n.nspname, c.relname), 0)"
NAMES = _NAME + _DUMPED + ";" + _EXTENSIONS
# The whole session may idle as long as the dump takes, which postgresql.conf would end after five minutes.
_EXPORT = """
SET idle_in_transaction_session_timeout = 0;
SET statement_timeout = 0;
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY;
SELECT json_build_array('snapshot', pg_export_snapshot(), '');
"""


@dataclass(frozen=True)
class Survey:
    """What is in a database: rows by table, extensions' versions by name, and the exported snapshot if it was."""

    rows: Mapping[str, int]
    extensions: Mapping[str, str]
    snapshot: str = ""


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server: the directory of its socket, the role to be, and the system user to be (None: ourselves).

    `configuration` is the live server's. With another `search_path` than ours names may be a stranger's objects.
    `inside` are the words that run a program where the server is, when that is in a sandbox.
    """

    socket: str = "/run/postgresql"
    role: str = APPLICATION
    user: str | None = None
    search_path: str = sessions.ALWAYS["search_path"]
    configuration: Path = sessions.CONFIGURATION
    inside: tuple[str, ...] = ()

    def connection(self, database: str) -> list[str]:
        """Return the arguments that connect psql, pg_restore and their like."""
        return [f"--host={self.socket}", f"--username={self.role}", f"--dbname={database}"]

    def environment(self, database: str = "", timeout: float = 30) -> dict[str, str]:
        """Return the variables that every program of PostgreSQL's is to have: its sessions are deaf to what others set.

        `database` is the one that it connects to; none for a program that goes to several. Asking for it takes
        `timeout` seconds at most. Raises HostError.
        """
        ours = {**sessions.ALWAYS, "search_path": self.search_path}
        if self.role == SUPERUSER:
            ours.update(sessions.SUPERUSER)
        if self.role == APPLICATION and not self.inside:
            # It may connect to no other database, and may set what it likes for itself.
            rows = self._settings(APPLICATION, ours, timeout)
            configuration = sessions.read_configuration(self.configuration) if rows else {}
            return {"PGOPTIONS": sessions.pgoptions({**sessions.configured(rows, configuration), **ours})}
        if database == HOME:
            return {"PGOPTIONS": sessions.pgoptions(ours)}
        return {"PGOPTIONS": sessions.pgoptions({**sessions.here(self._settings(HOME, ours, timeout)), **ours})}

    def _settings(self, database: str, ours: Mapping[str, str], timeout: float) -> list[str]:
        options = {"PGOPTIONS": sessions.pgoptions({**ours, **sessions.PATIENT})}
        return self._ask(database, [f"--command={sessions.NAMES}"], options, timeout=min(timeout, 30)).splitlines()

    def _psql(self, database: str) -> list[str]:
        command = [*self.inside, "psql", "--no-psqlrc", "--no-password", "--quiet", "--no-align", "--tuples-only"]
        return [*command, "--set=ON_ERROR_STOP=1", *self.connection(database)]

    def _ask(
        self,
        database: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        *,
        timeout: float,
        input: str | None = None,
    ) -> str:
        command = [*self._psql(database), *arguments]
        environment = {**environment, "PGCONNECT_TIMEOUT": "5"}
        return run(command, timeout=timeout, user=self.user, environment=environment, input=input).stdout

    def psql(self, *arguments: str, database: str = APPLICATION, timeout: float, input: str | None = None) -> str:
        """Return psql's rows, one a line, columns separated by |. Raises HostError when a statement fails."""
        return self._ask(database, arguments, self.environment(database, timeout), timeout=timeout, input=input)

    def run_file(self, file: Path, *, timeout: float) -> None:
        """Run a file of ours, which may connect to other databases than the first. Raises HostError."""
        self._ask(HOME, [f"--file={file}"], self.environment(), timeout=timeout)

    def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
        """Return the rows of some SQL as lines; names and values go in by stdin. Raises HostError."""
        return self.psql(database=database, timeout=timeout, input=sql + "\n").splitlines()

    def databases(self) -> list[str]:
        """Return the names of all databases but initdb's templates, the application's among them.

        Not what is no template: IS_TEMPLATE is a database's owner's to set. Raises HostError for a database that can't
        be read, for a name that a list of lines can't hold, and when the application's is not there.
        """
        sql = "SELECT json_build_array(datname, datallowconn, datconnlimit) FROM pg_database ORDER BY datname;"
        rows = [json.loads(line) for line in self.query(HOME, sql)]
        rows = [row for row in rows if row[0] not in _TEMPLATES]
        names = [str(name) for name, _, _ in rows]
        closed = [name for name, may_connect, limit in rows if not may_connect or limit == _INVALID]
        if closed:
            raise HostError(
                f"nobody can connect to the databases {closed}, and nothing is left out: give them ALLOW_CONNECTIONS"
                " true, or drop them"
            )
        odd = [name for name in names if not name.isprintable() or "/" in name or name.startswith("-")]
        if odd:
            raise HostError(f"the databases {odd} have names that can't be backed up")
        if APPLICATION not in names:
            raise HostError(f"the database {APPLICATION} is not there: a backup without it would be none")
        return names

    def roles(self) -> tuple[str, ...]:
        """Return the roles' names without PostgreSQL's own."""
        sql = "SELECT to_json(rolname::text) FROM pg_roles WHERE rolname !~ '^pg_' ORDER BY rolname;"
        return tuple(str(json.loads(line)) for line in self.query(HOME, sql))

    def system_identifier(self) -> str:
        """Return the cluster's own name, which initdb made."""
        return self.query(HOME, "SELECT system_identifier FROM pg_control_system();")[0]

    def version(self) -> str:
        """Return PostgreSQL's version as a number, such as 170012."""
        return self.query(HOME, "SHOW server_version_num;")[0]

    def survey(self, database: str) -> Survey:
        """Count what is in a database, as a role that may run what its tables' owners wrote. Raises HostError."""
        return parse_survey(self.query(database, _TABLES, timeout=3600))

    def schema(self, database: str, snapshot: str = "") -> str:
        """Return what pg_dump says of a database but its rows, in an exported snapshot if given. Raises HostError."""
        command = ["pg_dump", "--schema-only", "--no-password", *self.connection(database)]
        command += [f"--snapshot={snapshot}"] if snapshot else []
        return run(command, timeout=600, user=self.user, environment=self.environment(database)).stdout

    @contextmanager
    def exported(self, database: str, tables: str = NAMES) -> Iterator[Survey]:
        """List what is in a database in one exported snapshot, which stays good for the body of the `with`; no row of a
        table is counted.

        Raises HostError.
        """
        with subprocess.Popen(
            self._psql(database),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **self.environment(database)},
            encoding="utf-8",
        ) as session:
            assert session.stdin
            assert session.stdout
            assert session.stderr
            try:
                session.stdin.write(f"{_EXPORT}{tables}\\echo '{END}'\n")
                session.stdin.flush()
            except BrokenPipeError:
                # psql ended without reading, and says why on stderr. Closed here, or the `with` would write once more.
                with suppress(BrokenPipeError):
                    session.stdin.close()
            lines = []
            for line in session.stdout:
                if line.rstrip("\n") == END:
                    break
                lines.append(line)
            else:
                raise HostError(f"the database {database} can't be read: {session.stderr.read().strip()[-1500:]}")
            try:
                yield parse_survey(lines)
            finally:
                session.stdin.close()


def digest(script: str) -> str:
    """Return the SHA-256 of what pg_dump or pg_dumpall wrote, but for its guard: a word that is new each time."""
    lines = (line for line in script.splitlines() if not line.startswith(("\\restrict ", "\\unrestrict ")))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def parse_survey(lines: Sequence[str]) -> Survey:
    """Return the survey from the rows of its SQL."""
    rows = [json.loads(line) for line in lines]
    return Survey(
        rows={name: value for kind, name, value in rows if kind == "rows"},
        extensions={name: value for kind, name, value in rows if kind == "extension"},
        snapshot=next((name for kind, name, _ in rows if kind == "snapshot"), ""),
    )


def major_version(program: str) -> int:
    """Return the major version of PostgreSQL that an installed program of it (postgres, pg_dump) is of."""
    output = run([program, "--version"], timeout=ANSWER_SECONDS).stdout
    match = re.search(r"\(PostgreSQL\) (\d+)", output)
    if not match:
        raise HostError(f"{program} --version says {output.strip()!r}")
    return int(match[1])
