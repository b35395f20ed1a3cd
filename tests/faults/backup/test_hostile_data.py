"""What the API's role puts into production's database has no more rights wherever a backup is restored.

The attacker here is the API's role: it owns its database and nothing else. Whoever can write a repository is in
test_forged_runs.py. Everything is restored by the program that ships, from a run that the unit has made.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.machines.backup_host import BackupHost

RESTORE = "/opt/zmanim/restore.sh --latest --json"
# Tells whoever runs it in a superuser's session by failing, whatever role that session has become; in production it is
# the API's own harmless function. What is no IMMUTABLE function's to do is another's.
EVIL = """
CREATE FUNCTION public.reach() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  BEGIN
    EXECUTE 'RESET ROLE'; EXECUTE 'RESET SESSION AUTHORIZATION'; EXECUTE 'CREATE ROLE reached SUPERUSER';
  EXCEPTION WHEN OTHERS THEN NULL;
  END;
  IF EXISTS (
    SELECT FROM pg_catalog.pg_roles WHERE rolsuper AND rolname IN (current_user, session_user, 'reached')
  ) THEN
    RAISE EXCEPTION 'ran as the superuser';
  END IF;
END $$;
CREATE FUNCTION public.evil() RETURNS boolean LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  PERFORM public.reach();
  RETURN true;
END $$;
"""
# How PostgreSQL says so; the words alone are in the function's text, too.
RAN = "ERROR:  ran as the superuser"
# What its owner may make, and who runs it when it is restored.
ATTACKS = {
    "a constraint": "CREATE TABLE attack (n int CHECK (public.evil())); INSERT INTO attack VALUES (1);",
    "a function in an index": (
        "CREATE TABLE attack (n int); INSERT INTO attack VALUES (1); CREATE INDEX ON attack ((public.evil()));"
    ),
    "a domain": (
        "CREATE DOMAIN word AS text CHECK (public.evil());"
        " CREATE TABLE attack (w word); INSERT INTO attack VALUES ('x');"
    ),
    "a generated column": (
        "CREATE TABLE attack (n int, g boolean GENERATED ALWAYS AS (public.evil()) STORED);"
        " INSERT INTO attack VALUES (1);"
    ),
    "a trigger": (
        "CREATE FUNCTION public.fired() RETURNS trigger LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM public.evil(); RETURN NEW; END$$; CREATE TABLE attack (n int);"
        " CREATE TRIGGER fire BEFORE INSERT ON attack FOR EACH ROW EXECUTE FUNCTION public.fired();"
        " ALTER TABLE attack ENABLE ALWAYS TRIGGER fire; INSERT INTO attack VALUES (1);"
    ),
    "a row-level policy": (
        "CREATE TABLE attack (n int); INSERT INTO attack VALUES (1); ALTER TABLE attack ENABLE ROW LEVEL SECURITY;"
        " ALTER TABLE attack FORCE ROW LEVEL SECURITY; CREATE POLICY everybody ON attack USING (public.evil());"
    ),
    "a materialized view": (
        "CREATE TABLE attack (n int); CREATE MATERIALIZED VIEW attack_view AS SELECT public.evil() AS e;"
    ),
    "a statement in a comment": (
        "CREATE TABLE attack (a text); INSERT INTO attack VALUES ('x');"
        " CREATE FUNCTION public.typed(a text) RETURNS text LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM public.evil(); RETURN a; END$$; COMMENT ON TABLE attack IS E'text\\n\\\\connect ';"
        " COMMENT ON COLUMN attack.a IS E'; ALTER TABLE public.attack ALTER COLUMN a TYPE text USING public.typed(a),"
        " OWNER TO zmanim_backup;\\n\\\\connect ';"
    ),
    "a shadow of format": (
        "CREATE TABLE attack (n int); CREATE FUNCTION public.format(text, text, name, name) RETURNS text LANGUAGE"
        " plpgsql AS $$BEGIN PERFORM public.evil(); RETURN pg_catalog.format($1, $2, $3, $4); END$$;"
        " ALTER DATABASE zmanim SET search_path = public, pg_catalog;"
    ),
    "a shadow of an operator": (
        "CREATE TABLE attack (n int); CREATE FUNCTION public.same(name, name) RETURNS boolean LANGUAGE plpgsql AS"
        " $$BEGIN PERFORM public.evil(); RETURN $1 OPERATOR(pg_catalog.=) $2; END$$;"
        " CREATE OPERATOR public.= (FUNCTION = public.same, LEFTARG = name, RIGHTARG = name);"
        " ALTER DATABASE zmanim SET search_path = public, pg_catalog;"
    ),
}
CLEAN = """
ALTER DATABASE zmanim RESET search_path;
DROP TABLE IF EXISTS public.attack CASCADE; DROP MATERIALIZED VIEW IF EXISTS public.attack_view;
DROP OPERATOR IF EXISTS public.= (name, name); DROP FUNCTION IF EXISTS public.same(name, name);
DROP FUNCTION IF EXISTS public.format(text, text, name, name);
DROP FUNCTION IF EXISTS public.fired(); DROP DOMAIN IF EXISTS public.word; DROP FUNCTION IF EXISTS public.typed(text);
DROP FUNCTION IF EXISTS public.evil(); DROP FUNCTION IF EXISTS public.reach();
"""


def as_owner(host: BackupHost, sql: str) -> None:
    """Run some SQL as the API's role, deaf to what it has set before."""
    script = f"runuser -u zmanim -- psql --no-psqlrc --quiet --set=ON_ERROR_STOP=1 zmanim <<'END'\n{sql}\nEND"
    host.run(f"cd /; export PGOPTIONS='-c search_path=public'; {script}")


@contextmanager
def attacked(host: BackupHost, sql: str) -> Iterator[None]:
    """Have the API's role make something in production, and a backup of that."""
    as_owner(host, CLEAN + EVIL + sql)
    try:
        host.backups.succeed()
        yield
    finally:
        as_owner(host, CLEAN)


@pytest.mark.incident("a constraint of a restored table ran a program as the superuser")
@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_that_the_api_s_role_has_made_runs_as_the_superuser(backup_host: BackupHost, attack: str) -> None:
    with attacked(backup_host, ATTACKS[attack]):
        done = backup_host.images.try_run(backup_host.machine, RESTORE)
        assert RAN not in done["StandardErrorContent"]
        assert done["Status"] == "Success", done["StandardErrorContent"]
        report = json.loads(done["StandardOutputContent"])
    assert report["run"] == backup_host.backups.complete()[0]["run"]


@pytest.mark.incident("counting rows ran a function of the API's in a table's index, as the backup's role")
def test_nothing_that_the_api_s_role_has_made_runs_as_the_role_that_makes_backups(backup_host: BackupHost) -> None:
    who = "(SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user)"
    spy = EVIL.replace(who, "current_user <> 'zmanim'")
    as_owner(backup_host, f"{CLEAN} {spy} {ATTACKS['a function in an index']}")
    try:
        backup_host.backups.succeed()
        assert json.loads(backup_host.run(RESTORE))["run"] == backup_host.backups.complete()[0]["run"]
    finally:
        as_owner(backup_host, CLEAN)


# A program in the place of one that a restore runs as the lesser user, which plants links where root wrote by path.
_PLANT = """#!/bin/bash
/usr/bin/initdb "$@"; code=$?
for word; do case $word in --pgdata=*) place=${word#--pgdata=} ;; esac; done
top=${place%/postgres}
for name in redis/dump.rdb redis.log postgresql.log redis/.appendonlydir.unfinished; do
  ln -sfn /etc/planted-$(basename "$name") "$top/$name" 2>/dev/null
done
exit $code
"""


@pytest.mark.incident("root wrote through a link that the restored database had planted: any file of the machine")
def test_root_writes_through_no_link_of_the_scratch_user_s(backup_host: BackupHost, good: str) -> None:
    backup_host.images.put(backup_host.machine, "/usr/local/bin/initdb", _PLANT.encode())
    try:
        done = backup_host.images.try_run(backup_host.machine, RESTORE)
        assert backup_host.run("ls /etc | grep planted || true") == ""
        # It is seen: what is there already is no place for the snapshot.
        assert done["Status"] == "Failed"
        assert "File exists" in done["StandardErrorContent"], done
    finally:
        backup_host.run("rm -rf /usr/local/bin/initdb /etc/planted-*")
    assert json.loads(backup_host.run(RESTORE))["run"] == good


def test_the_scratch_servers_reach_neither_the_live_ones_nor_any_network(backup_host: BackupHost, good: str) -> None:
    script = """#!/bin/bash
exec >&2
id --user --name; ls /run/postgresql /run/redis /run/zmanim /run/dbus /data/postgres; ls /var/cache/restic
echo "other interfaces: $(grep -c -v -e lo: -e '|' /proc/net/dev)"
exit 3
"""
    backup_host.images.put(backup_host.machine, "/usr/local/bin/initdb", script.encode())
    try:
        done = backup_host.images.try_run(backup_host.machine, RESTORE)["StandardErrorContent"]
    finally:
        backup_host.run("rm /usr/local/bin/initdb")
    assert "zmanim-scratch" in done
    assert done.count("No such file or directory") == 5, done
    assert "'/var/cache/restic': Permission denied" in done, done
    assert "other interfaces: 0" in done, done
    assert good


def test_what_a_restore_started_is_over_when_it_is(backup_host: BackupHost, good: str) -> None:
    assert json.loads(backup_host.run(RESTORE))["run"] == good
    assert backup_host.run("pgrep --uid zmanim-scratch || true") == ""
    assert backup_host.run("ls -A /data") == backup_host.run("ls -A /data | grep -v restore")


def test_a_restore_that_is_ended_leaves_nothing_running_and_nothing_half(backup_host: BackupHost, good: str) -> None:
    for signal in ("TERM", "KILL"):
        backup_host.run("systemctl start --no-block backup-drill")
        backup_host.run("until pgrep --uid zmanim-scratch --exact postgres; do sleep 0.2; done")
        # The program itself, as whoever looks for memory would: not the one that cleans up after it.
        backup_host.run(f"systemctl kill --kill-whom=main --signal={signal} backup-drill")
        backup_host.run("until systemctl is-active backup-drill | grep -qE '^(inactive|failed)$'; do sleep 0.2; done")
        assert backup_host.run("pgrep --uid zmanim-scratch || true") == ""
        assert backup_host.run("ls -d /data/restore 2>/dev/null || true") == ""
    backup_host.run("systemctl reset-failed backup-drill")
    assert backup_host.backups.complete()[0]["run"] == good
