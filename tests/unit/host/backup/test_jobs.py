"""Jobs of pg_cron are scheduled by whose they are, and never by a row that says whose."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from tests.support.backup_parts import FakeServer
from zmanim_host.backup import jobs
from zmanim_host.backup.jobs import Job
from zmanim_host.host import HostError

COPY = """
COPY cron.job (jobid, schedule, command, nodename, nodeport, database, username, active, jobname) FROM stdin;
1\t0 0 1 1 *\tSELECT 'it''s';\\n\\tSELECT '\\\\';\tlocalhost\t5432\tzmanim\tzmanim\tt\tyearly
2\t* * * * *\tSELECT 1\tlocalhost\t5432\tzmanim\treader\tf\t\\N
\\.
"""
ALTER_JOB = "EXECUTE ON FUNCTION cron.alter_job(bigint, text, text, text, text, boolean)"
YEARLY = Job("yearly", "0 0 1 1 *", "SELECT 'it''s';\n\tSELECT '\\';", "zmanim", "zmanim", True)
UNNAMED = Job("", "* * * * *", "SELECT 1", "reader", "zmanim", False)


@dataclass(frozen=True)
class Cron(FakeServer):
    """One whose queries are written down with who asked; each job gets the number 7."""

    asked: list[tuple[str, str]] = field(default_factory=list)
    extension: str = "pg_cron"

    def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
        if "pg_extension" in sql:
            return [self.extension] if self.extension else []
        self.asked.append((self.role, sql))
        return ["7"]


def test_jobs_are_read_from_a_dump_s_rows() -> None:
    assert jobs.parse(COPY) == [YEARLY, UNNAMED]
    assert jobs.parse("") == []
    with pytest.raises(HostError, match="can't be understood"):
        jobs.parse(COPY.replace("\tt\tyearly", "\tt"))
    with pytest.raises(HostError, match="no column"):
        jobs.parse(COPY.replace(", jobname", ", other"))


def test_each_role_schedules_its_own_and_what_was_switched_off_stays_so() -> None:
    server = Cron(role="postgres")
    jobs.schedule(server, "zmanim", [YEARLY, UNNAMED], ["postgres", "zmanim", "reader"])
    assert server.asked == [
        ("zmanim", "SELECT cron.schedule('yearly', '0 0 1 1 *',  E'SELECT ''it''''s'';\n\tSELECT ''\\\\'';');"),
        ("reader", "SELECT cron.schedule('* * * * *', 'SELECT 1');"),
        ("postgres", f'GRANT {ALTER_JOB} TO "reader";'),
        ("reader", "SELECT cron.alter_job(7, active => false);"),
        ("postgres", f'REVOKE {ALTER_JOB} FROM "reader";'),
    ]


@pytest.mark.incident("a forged dump without pg_cron had the superuser call its own function cron.alter_job")
def test_no_function_is_called_that_is_not_the_extension_s() -> None:
    server = Cron(role="postgres", extension="")
    with pytest.raises(HostError, match="has no such extension of the superuser's"):
        jobs.schedule(server, "zmanim", [YEARLY], ["postgres", "zmanim"])
    assert server.asked == []


@pytest.mark.incident("a job that a forged dump had scheduled as postgres ran a minute after the restore")
@pytest.mark.parametrize(
    ("job", "words"),
    [
        (Job("evil", "* * * * *", "COPY x", "postgres", "zmanim", True), "the job 'evil' is postgres's"),
        (Job("", "* * * * *", "COPY x", "nobody", "zmanim", True), "the job 'COPY x' is nobody's"),
        (Job("far", "* * * * *", "x", "zmanim", "postgres", True), "'far' is for the database 'postgres'"),
    ],
)
def test_a_superuser_s_job_is_refused_by_name_and_none_is_scheduled(job: Job, words: str) -> None:
    server = Cron()
    with pytest.raises(HostError, match=words):
        jobs.schedule(server, "zmanim", [YEARLY, job], ["postgres", "zmanim"])
    assert server.asked == []
