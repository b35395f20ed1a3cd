"""Whoever can write a repository can have nothing run as root, as the superuser, or by whoever has the credentials.

What takes a superuser to make is made here by one, in production, and is a part of the next run: a forged dump would
hold just that. What pg_dump never writes is put into a dump that it has written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.faults.backup.test_hostile_data import CLEAN, EVIL, RAN, as_owner
from tests.support.machines.backup_host import BackupHost
from tests.support.machines.forged_runs import forge, forget

PROGRAM = "PROGRAM 'touch /var/tmp/forged; echo 1'"


def as_superuser(host: BackupHost, sql: str, database: str = "zmanim") -> None:
    """Run some SQL as the superuser, with no event trigger in its way."""
    psql = f"runuser -u postgres -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 {database}"
    host.run(f"cd /; export PGOPTIONS='-c event_triggers=off -c search_path=public'; {psql} <<'END'\n{sql}\nEND")


def restored(host: BackupHost, run: str) -> tuple[bool, str]:
    """Restore a run beside what is live; return whether that ended well, and what it said."""
    done = host.images.try_run(host.machine, f"/opt/zmanim/restore.sh --run '{run}' --json")
    output = done["StandardErrorContent"] + done["StandardOutputContent"]
    assert RAN not in output
    assert host.run("ls /var/tmp/forged /tmp/forged 2>/dev/null || true") == ""
    return done["Status"] == "Success", output


def refusal(host: BackupHost, run: str) -> str:
    """Return what a restore of a forged run says, which it has to refuse; the run is gone then."""
    try:
        went_well, output = restored(host, run)
        assert not went_well
        return output
    finally:
        forget(host, run)


@contextmanager
def made_by_a_superuser(
    host: BackupHost, sql: str, clean: str, database: str = "zmanim", *, owners: str = ""
) -> Iterator[str]:
    """Have a superuser make something in production, of what its owner has made before; yield the run that has it.

    That run is complete, but its unit may fail: it tells once of what no restore brings back.
    """
    as_owner(host, CLEAN + EVIL + "CREATE TABLE attack (n int); INSERT INTO attack VALUES (1);" + owners)
    as_superuser(host, sql, database)
    try:
        before = host.backups.complete()[0]["run"]
        host.backups.start()
        run = str(host.backups.complete()[0]["run"])
        assert run != before, host.backups.journal()
        yield run
    finally:
        as_superuser(host, clean, database)
        as_owner(host, CLEAN)


FIRE = "CREATE FUNCTION public.fire() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN PERFORM public.evil(); END$$;"
UNFIRE = "DROP EVENT TRIGGER forged; DROP FUNCTION public.fire();"


@pytest.mark.parametrize("event", ["ddl_command_end", "login"])
def test_an_event_trigger_is_left_out_and_named(backup_host: BackupHost, event: str) -> None:
    sql = f"{FIRE} CREATE EVENT TRIGGER forged ON {event} EXECUTE FUNCTION public.fire();"
    with made_by_a_superuser(backup_host, sql, UNFIRE) as run:
        good, output = restored(backup_host, run)
    assert good, output
    assert "left out, as only a superuser could make it: zmanim: EVENT TRIGGER - forged" in output


@pytest.mark.incident("a SECURITY DEFINER function came into production by --replace")
def test_a_superuser_s_function_is_not_the_superuser_s_any_more(backup_host: BackupHost) -> None:
    sql = (
        "CREATE FUNCTION public.definer() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1';"
        "CREATE VIEW public.looks AS SELECT public.evil(); GRANT UPDATE ON pg_catalog.pg_authid TO zmanim;"
        "GRANT EXECUTE ON FUNCTION cron.schedule_in_database(text, text, text, text, text, boolean) TO zmanim;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO zmanim;"
    )
    clean = (
        "DROP FUNCTION public.definer(); DROP VIEW public.looks; REVOKE UPDATE ON pg_catalog.pg_authid FROM zmanim;"
        "REVOKE EXECUTE ON FUNCTION cron.schedule_in_database(text, text, text, text, text, boolean) FROM zmanim;"
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres REVOKE ALL ON TABLES FROM zmanim;"
    )
    with made_by_a_superuser(backup_host, sql, clean) as run:
        good, output = restored(backup_host, run)
    assert good, output
    for words in (
        "alter function public . definer ( ) owner to postgres (zmanim has it)",
        "alter view public . looks owner to postgres",
        "grant update on table pg_catalog . pg_authid to zmanim",
        "grant all on function cron . schedule_in_database",
        "alter default privileges for role postgres",
    ):
        assert words in output, output


def test_a_table_of_the_superuser_s_is_its_own_again_only_where_it_runs_nothing(backup_host: BackupHost) -> None:
    sql = (
        "CREATE TABLE public.inert (id serial, n int, at geometry); INSERT INTO inert (n) VALUES (1);"
        "GRANT SELECT ON inert TO zmanim; ALTER TABLE harmful OWNER TO postgres;"
    )
    owners = "CREATE TABLE public.harmful (n int); CREATE INDEX ON harmful ((public.evil()));"
    clean = "DROP TABLE inert, harmful;"
    with made_by_a_superuser(backup_host, sql, clean, owners=owners) as run:
        good, output = restored(backup_host, run)
    assert good, output
    assert "alter table public . harmful owner to postgres (what others wrote would run" in output
    assert "public . inert" not in output


def test_a_superuser_s_job_is_refused_by_name(backup_host: BackupHost) -> None:
    sql = "SELECT cron.schedule('forged', '* * * * *', 'SELECT 1')"
    with made_by_a_superuser(backup_host, sql, "SELECT cron.unschedule('forged')") as run:
        good, output = restored(backup_host, run)
    assert not good
    assert "the job 'forged' is postgres's, and no restore schedules that" in output


def test_a_run_in_which_the_database_postgres_holds_anything_is_refused_by_name(backup_host: BackupHost) -> None:
    sql = "CREATE FUNCTION public.forged() RETURNS int LANGUAGE sql AS 'SELECT 1'"
    with made_by_a_superuser(backup_host, sql, "DROP FUNCTION public.forged()", "postgres") as run:
        good, output = restored(backup_host, run)
    assert not good
    assert "the database postgres of this run holds FUNCTION public forged()" in output


_TWO_ACTIONS = "ALTER TABLE public.attack ADD COLUMN b boolean DEFAULT public.evil(), OWNER TO zmanim_backup;"
_CRON = """CREATE SCHEMA cron;
CREATE FUNCTION cron.schedule(text, text, text) RETURNS bigint LANGUAGE sql AS 'SELECT public.evil()::int::bigint';
CREATE FUNCTION cron.alter_job(bigint, active boolean) RETURNS boolean LANGUAGE sql AS 'SELECT public.evil()';
"""
# Texts of a dump, what takes their places, and what the owner is told then.
EDITS = {
    "a shadow in pg_catalog": (
        [("CREATE FUNCTION public.evil()", "CREATE FUNCTION pg_catalog.evil()")],
        "permission denied for schema pg_catalog",
    ),
    "a program in the place of rows": (
        [("COPY public.attack (n) FROM stdin;", f"COPY public.attack (n) FROM {PROGRAM};")],
        "permission denied to COPY to or from an external program",
    ),
    "a program after a way back to the superuser": (
        [
            (
                "CREATE TABLE public.attack (",
                f"RESET ROLE; RESET SESSION AUTHORIZATION; COPY (SELECT 1) TO {PROGRAM}; CREATE TABLE public.attack (",
            )
        ],
        "permission denied to COPY to or from an external program",
    ),
    "a program as the superuser": (
        [("CREATE TABLE public.attack (", "SET SESSION AUTHORIZATION postgres; CREATE TABLE public.attack (")],
        "permission denied to set session authorization",
    ),
    "a setting of the server's": (
        [("CREATE TABLE public.attack (\n    n integer\n);", "ALTER SYSTEM SET jit = on;")],
        "permission denied to set parameter",
    ),
    "a statement that does more than give to an owner": (
        [
            (
                "CREATE TABLE public.attack (\n    n integer\n);",
                f"CREATE TABLE public.attack (n integer); {_TWO_ACTIONS}",
            )
        ],
        "a statement does more than give something to its owner",
    ),
    "functions in the place of pg_cron's": (
        [
            ("CREATE EXTENSION IF NOT EXISTS pg_cron WITH SCHEMA pg_catalog;", "SELECT 1;"),
            ("CREATE TABLE public.attack (", f"{_CRON} CREATE TABLE public.attack ("),
        ],
        "has no such extension of the superuser's",
    ),
    "an owner that is none": (
        [("CREATE TABLE public.attack (\n    n integer\n);", "ALTER TABLE cron.job OWNER TO zmanim;")],
        "permission denied for schema cron",
    ),
}


@pytest.mark.incident("an archive with a changed COPY ran a program, whatever the list selected")
@pytest.mark.parametrize("edit", EDITS)
def test_a_forged_dump_gets_no_further_than_its_owner(backup_host: BackupHost, edit: str) -> None:
    edits, words = EDITS[edit]
    as_owner(backup_host, CLEAN + EVIL + "CREATE TABLE attack (n int); INSERT INTO attack VALUES (1);")
    backup_host.backups.succeed()
    try:
        output = refusal(backup_host, forge(backup_host, edits=edits))
        assert words in output, output
    finally:
        as_owner(backup_host, CLEAN)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER ROLE zmanim WITH SUPERUSER;", "the role 'zmanim' is SUPERUSER"),
        ("GRANT pg_execute_server_program TO zmanim;", "'zmanim' is a member of 'pg_execute_server_program'"),
        (f"COPY (SELECT 1) TO {PROGRAM};", "a statement that no restore runs: copy"),
        ("\\! touch /var/tmp/forged\n", "can't be understood|no end"),
    ],
)
def test_a_forged_script_of_roles_is_refused_by_name(
    backup_host: BackupHost, good: str, statement: str, words: str
) -> None:
    output = refusal(backup_host, forge(backup_host, roles=statement))
    assert any(word in output for word in words.split("|")), output
    assert backup_host.backups.complete()[0]["run"] == good


@pytest.mark.parametrize(
    ("record", "words"),
    [
        ({"databases.1.name": "dbname=zmanim user=postgres"}, "no restore makes that"),
        ({"redis.snapshot": "--password-command=touch /var/tmp/forged"}, "restic dump: exit code 1"),
        # As runs of format 1 have their roles.
        (
            {"globals.sql": "", "globals.snapshot": "--password-command=touch /var/tmp/forged"},
            "restic dump: exit code 1",
        ),
        ({"globals.roles": ["postgres", "zmanim", "pg_forged"]}, "which the record does not have"),
        ({"redis.sha256": "0"}, "is not the one that the record is about"),
    ],
)
def test_a_forged_record_names_nothing_but_data(
    backup_host: BackupHost, good: str, record: dict[str, str], words: str
) -> None:
    output = refusal(backup_host, forge(backup_host, record=record))
    assert words in output, output
    assert backup_host.backups.complete()[0]["run"] == good


def test_a_forged_membership_is_left_out_and_named(backup_host: BackupHost, good: str) -> None:
    run = forge(
        backup_host, roles="GRANT pg_signal_backend TO zmanim; GRANT pg_read_all_data TO zmanim WITH ADMIN OPTION;"
    )
    try:
        went_well, output = restored(backup_host, run)
        assert went_well, output
        for group in ("pg_signal_backend", "pg_read_all_data"):
            assert f"the membership of 'zmanim' in '{group}'" in output, output
    finally:
        forget(backup_host, run)
    assert backup_host.backups.complete()[0]["run"] == good


def test_a_run_whose_id_is_a_path_is_refused(backup_host: BackupHost, good: str) -> None:
    output = refusal(backup_host, forge(backup_host, run="../../var/tmp/forged"))
    assert "is no id of a run" in output, output
    assert json.loads(backup_host.run("/opt/zmanim/restore.sh --latest --json"))["run"] == good
