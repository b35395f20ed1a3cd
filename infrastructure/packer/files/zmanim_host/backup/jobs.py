"""The jobs of pg_cron: read from the rows that a dump holds, and scheduled anew by whose they are.

A row of cron.job names the role that its command is run as. Loaded as it is, one that names the superuser runs whatever
it says a minute later.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from zmanim_host.backup.sql_text import identifier, literal
from zmanim_host.host import HostError
from zmanim_host.postgres import SUPERUSER, Server

TABLE = "cron.job"
# What pg_cron wrote down of past runs. It is no work of anybody's, and is not restored.
DETAILS = "cron.job_run_details"
EXTENSION = "pg_cron"
# The functions have to be the image's own: a forged dump that lacks the extension may define others by these names.
_EXTENSION = """
SELECT e.extname FROM pg_extension e WHERE e.extname = 'pg_cron' AND e.extowner = 10 AND NOT EXISTS (
  SELECT FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'cron' AND NOT EXISTS (
    SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e'
    AND d.refclassid = 'pg_extension'::regclass AND d.refobjid = e.oid));
"""
_ALTER = "EXECUTE ON FUNCTION cron.alter_job(bigint, text, text, text, text, boolean)"
_COPY = re.compile(r"^COPY cron\.job \(([a-z_, ]+)\) FROM stdin;$")
_ESCAPE = re.compile(r"\\(?:([bfnrtv\\])|N)", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\"}


@dataclass(frozen=True)
class Job:
    """One job: `name` is empty for one that has none."""

    name: str
    schedule: str
    command: str
    role: str
    database: str
    active: bool


def parse(script: str) -> list[Job]:
    """Return the jobs of what pg_restore writes of the table cron.job; HostError when it can't be understood."""
    columns: list[str] = []
    jobs = []
    for line in script.split("\n"):
        match = _COPY.match(line)
        if match:
            columns = match[1].split(", ")
        elif line == "\\.":
            columns = []
        elif columns:
            values = [_value(text) for text in line.split("\t")]
            if len(values) != len(columns):
                raise HostError(f"a job of pg_cron can't be understood: {line[:200]!r}")
            jobs.append(_job({column: values[at] for at, column in enumerate(columns)}))
    return jobs


def _job(row: dict[str, str | None]) -> Job:
    try:
        return Job(
            name=row["jobname"] or "",
            schedule=row["schedule"] or "",
            command=row["command"] or "",
            role=row["username"] or "",
            database=row["database"] or "",
            active=row["active"] == "t",
        )
    except KeyError as error:
        raise HostError(f"the jobs of pg_cron have no column {error}") from None


def _value(text: str) -> str | None:
    if text == "\\N":
        return None
    return _ESCAPE.sub(lambda match: _LETTERS.get(match[1] or "", match[0]), text)


def schedule(server: Server, database: str, jobs: Sequence[Job], roles: Collection[str]) -> None:
    """Have each role schedule its own jobs. Raises HostError that names a job that none may have."""
    for job in jobs:
        what = f"the job {job.name or job.command[:60]!r}"
        if job.role == SUPERUSER or job.role not in roles:
            raise HostError(f"{what} is {job.role}'s, and no restore schedules that: schedule it by hand")
        if job.database != database:
            raise HostError(f"{what} is for the database {job.database!r}, and only a superuser's may be")
    if server.query(database, _EXTENSION) != [EXTENSION]:
        raise HostError(f"the run has jobs of {EXTENSION}, but {database} has no such extension of the superuser's")
    for job in jobs:
        role = replace(server, role=job.role)
        named = [job.name] if job.name else []
        arguments = ", ".join(literal(text) for text in (*named, job.schedule, job.command))
        made = role.query(database, f"SELECT cron.schedule({arguments});")
        if not job.active:
            # pg_cron leaves it to the administrator who may call that. It changes nobody's jobs but the caller's own.
            server.query(database, f"GRANT {_ALTER} TO {identifier(job.role)};")
            role.query(database, f"SELECT cron.alter_job({int(made[0])}, active => false);")
            server.query(database, f"REVOKE {_ALTER} FROM {identifier(job.role)};")
