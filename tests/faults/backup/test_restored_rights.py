"""What a restore gives back though nobody loads it as a superuser: every owner, right, setting and job."""

from __future__ import annotations

import re

from tests.faults.backup.test_forged_runs import as_superuser
from tests.faults.backup.test_hostile_data import as_owner
from tests.support.machines.backup_host import BackupHost
from tests.support.machines.backups import STATE

SUPERUSERS = """
CREATE ROLE clerk LOGIN CONNECTION LIMIT 7; CREATE ROLE "Odd; name" NOLOGIN NOINHERIT; CREATE ROLE keeper;
GRANT clerk TO "Odd; name" WITH ADMIN OPTION, INHERIT FALSE; GRANT keeper TO clerk;
COMMENT ON ROLE clerk IS 'it''s \\ a role'; ALTER ROLE clerk SET search_path TO office, "Odd; schema";
ALTER ROLE clerk IN DATABASE zmanim SET statement_timeout = '50s';
GRANT CREATE ON DATABASE zmanim TO clerk; GRANT USAGE, CREATE ON SCHEMA public TO keeper;
CREATE SCHEMA office AUTHORIZATION clerk; CREATE SCHEMA "Odd; schema" AUTHORIZATION "Odd; name";
GRANT USAGE ON SCHEMA cron TO clerk;
INSERT INTO spatial_ref_sys (srid, auth_name, proj4text) VALUES (990001, 'ours', '+proj=longlat');
"""
CLERKS = """
CREATE TABLE office.files (id serial PRIMARY KEY, name text, "to" text, kept boolean GENERATED ALWAYS AS (true) STORED);
INSERT INTO office.files (name) VALUES ('one'), ('two');
CREATE FUNCTION office.count(which text DEFAULT 'all') RETURNS bigint LANGUAGE sql SECURITY DEFINER
  SET search_path = office AS $$SELECT count(*) FROM office.files$$;
CREATE FUNCTION office.atomic(n int) RETURNS int BEGIN ATOMIC SELECT CASE n WHEN 1 THEN 2 END; SELECT 3; END;
CREATE VIEW office.names AS SELECT name FROM office.files; CREATE TYPE office.state AS ENUM ('a;', 'b''');
CREATE MATERIALIZED VIEW office.seen AS SELECT 1 AS n; CREATE DOMAIN office.word AS text CHECK (VALUE <> '');
GRANT SELECT ("to", name), UPDATE (name) ON office.files TO reader; GRANT USAGE ON SCHEMA office TO reader, zmanim;
GRANT SELECT ON office.names TO zmanim WITH GRANT OPTION; REVOKE EXECUTE ON FUNCTION office.count(text) FROM PUBLIC;
ALTER DEFAULT PRIVILEGES IN SCHEMA office GRANT SELECT ON TABLES TO keeper;
SELECT cron.schedule('clerks', '5 5 * * *', E'SELECT ''a\\tb''');
SELECT cron.schedule('0 1 * * *', 'SELECT 1');
"""
OWNERS = """
GRANT SELECT ON office.names TO keeper;
COMMENT ON DATABASE zmanim IS 'it''s \\ ours'; ALTER DATABASE zmanim SET work_mem = '5MB';
ALTER DATABASE zmanim CONNECTION LIMIT 40;
REVOKE TEMPORARY ON DATABASE zmanim FROM PUBLIC; GRANT CONNECT ON DATABASE zmanim TO clerk;
CREATE EXTENSION citext; CREATE TABLE own (c citext); INSERT INTO own VALUES ('A');
CREATE PUBLICATION few FOR TABLE own; CREATE STATISTICS stat ON id, name FROM places;
ALTER TABLE places ADD CONSTRAINT named CHECK (name <> '') NOT VALID; COMMENT ON TABLE places IS '/* -- ; $$';
CREATE FUNCTION nested() RETURNS text LANGUAGE sql AS $outer$SELECT $$a;'b"$$ || E'\\';'$outer$;
CREATE INDEX partial ON places (name) WHERE name > 'a'; CREATE RULE nothing AS ON DELETE TO own DO INSTEAD NOTHING;
CREATE TABLE parts (n int) PARTITION BY RANGE (n); CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9);
INSERT INTO parts VALUES (1); ALTER TABLE own ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON own TO reader USING (true);
CREATE OPERATOR === (FUNCTION = citext_eq, LEFTARG = citext, RIGHTARG = citext);
"""
SCHEMA = " ; ".join(
    f"runuser -u postgres -- pg_dump {kind} {{0}}" for kind in ("--schema-only --create", "--data-only --inserts")
)


def described(host: BackupHost, database: str) -> str:
    """Return what pg_dump says of a database, without what is of the moment and what pg_cron counts for itself."""
    output = host.images.enter(host.machine, ["bash", "-c", "cd /; " + SCHEMA.format(database)])
    output = re.sub(r"^\\(un)?restrict .*$|^-- (Started|Completed) on .*$", "", output, flags=re.MULTILINE)
    output = re.sub(r"(INSERT INTO cron\.job VALUES \()\d+", r"\1N", output)
    jobs = sorted(line for line in output.splitlines() if "cron.job " in line)
    rest = [line for line in output.splitlines() if not re.search(r"cron\.(job|runid)", line)]
    return "\n".join([*rest, *jobs])


def test_a_restored_machine_has_every_owner_right_setting_and_job(backup_host: BackupHost) -> None:
    host = backup_host
    as_superuser(host, SUPERUSERS)
    as_superuser(host, f"SET SESSION AUTHORIZATION clerk; {CLERKS}")
    as_superuser(host, "SELECT cron.alter_job(jobid, active => false) FROM cron.job WHERE jobname = 'clerks'")
    as_owner(host, OWNERS)
    run = host.backups.succeed()
    before = {name: described(host, name) for name in ("zmanim", "second")}
    roles = "runuser -u postgres -- pg_dumpall --globals-only --no-role-passwords | grep -v restrict"
    state, globals_ = host.run(STATE), host.run(f"cd /; {roles}")
    host.run(f"systemctl stop zmanim-api; /opt/zmanim/restore.sh --run {run} --replace --yes")
    host.run("systemctl start zmanim-api; systemctl restart zmanim-ready")
    assert host.images.ready_reports(host.machine)[-1]["ok"]
    for name, text in before.items():
        assert described(host, name) == text
    assert host.run(STATE) == state
    assert host.run(f"cd /; {roles}") == globals_
    # The grant that let them be loaded is gone.
    assert host.images.query(host.machine, "SELECT has_table_privilege('spatial_ref_sys', 'INSERT')") == "f"
