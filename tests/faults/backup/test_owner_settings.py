"""Whatever the API's role sets for its database and for itself, the image's own sessions don't hear it."""

from __future__ import annotations

import json

import pytest

from tests.support.machines.backup_host import BackupHost
from tests.support.machines.lab import wait_for

# Every setting with every kind of value, each tried by the owner: PostgreSQL says which of them it may set.
_TRY = """
SELECT format('ALTER %s zmanim SET %I = %L;', kind, name, value) FROM unnest(ARRAY['ROLE', 'DATABASE']) AS k (kind), (
  SELECT name, unnest(CASE vartype WHEN 'bool' THEN ARRAY[CASE setting WHEN 'on' THEN 'off' ELSE 'on' END]
    WHEN 'enum' THEN (SELECT array_agg(each) FROM unnest(enumvals) AS e (each) WHERE each <> setting)
    WHEN 'string' THEN ARRAY['', 'x'] ELSE ARRAY[max_val, min_val] END) AS value
  FROM pg_settings WHERE context IN ('user', 'superuser', 'superuser-backend', 'backend')
  UNION ALL VALUES ('role', 'zmanim'), ('session_authorization', 'zmanim'), ('seed', '0.5'), ('DateStyle', 'SQL, DMY'),
    ('client_encoding', 'LATIN1'), ('statement_timeout', '1ms'), ('transaction_timeout', '1ms'),
    ('idle_session_timeout', '1ms'), ('idle_in_transaction_session_timeout', '1ms'), ('lock_timeout', '1ms')
) AS each
"""
_EVERYTHING = f"""cd /
runuser -u zmanim -- psql --no-psqlrc -Atq zmanim >/run/try.sql <<'END'
{_TRY}
END
chmod 644 /run/try.sql
# One session: what it sets is for those that follow.
runuser -u zmanim -- psql --no-psqlrc -q --file=/run/try.sql zmanim >/dev/null 2>&1
runuser -u postgres -- psql --no-psqlrc -Atqc "SELECT count(*) FROM pg_db_role_setting, unnest(setconfig)" postgres
"""
_RESET = """cd /; runuser -u postgres -- psql --no-psqlrc -q postgres <<'END'
ALTER DATABASE zmanim RESET ALL; ALTER ROLE zmanim RESET ALL;
END
"""
_MIGRATION = "/opt/zmanim/current/migrations/20990101000000_slow.sql"


@pytest.mark.incident("the API set transaction_timeout on its database, and every backup was killed from then on")
@pytest.mark.incident("local_preload_libraries = 'x', set by the owner, locked everybody out, the superuser too")
def test_whatever_the_owner_sets_the_machine_boots_migrates_and_restores(backup_host: BackupHost, good: str) -> None:
    images, machine = backup_host.images, backup_host.machine
    try:
        assert int(backup_host.run(_EVERYTHING)) > 2 * 140
        # The API itself lives with what it has set; what follows is about everybody else.
        run = backup_host.backups.succeed()
        report = json.loads(backup_host.run_long(f"/opt/zmanim/restore.sh --run {run} --json"))
        assert report["run"] == run
        backup_host.run_long("systemctl start backup-drill")
        backup_host.run(
            f"echo 'SELECT pg_sleep(2); CREATE TABLE slow (n int);' >{_MIGRATION}; systemctl start zmanim-migrate"
        )
        # In the journal: a session without the image's options is ended at once.
        applied = backup_host.run("journalctl --no-pager --output=cat --boot --unit=zmanim-migrate --lines=5")
        assert "1 migrations applied" in applied
        boots = len(images.ready_reports(machine))
        images.ec2.reboot_instances(InstanceIds=[machine])
        report = images.wait_report(machine, boot=boots + 1, seconds=180)
        failed = {name for name, check in report["checks"].items() if not check["ok"]}
        assert failed <= {"api", "release", "units"}, report
        backup_host.backups.succeed()
    finally:
        backup_host.run(_RESET)
        backup_host.run(f"rm -f {_MIGRATION}; systemctl restart zmanim-api; systemctl reset-failed")
    wait_for(lambda: images.active(machine, "zmanim-api.service")["zmanim-api.service"] == "active", 60, "the API")


@pytest.mark.incident("ALTER DATABASE zmanim IS_TEMPLATE true: after 105 days no run with the API's data was left")
def test_what_would_keep_the_backup_out_is_put_right_and_told(backup_host: BackupHost, good: str) -> None:
    images, machine = backup_host.images, backup_host.machine
    images.query(machine, "REVOKE ALL ON DATABASE zmanim FROM PUBLIC, zmanim")
    images.query(
        machine,
        "ALTER DATABASE zmanim CONNECTION LIMIT 0; ALTER DATABASE zmanim IS_TEMPLATE true;"
        " ALTER DATABASE zmanim ALLOW_CONNECTIONS false",
        role="postgres",
        database="postgres",
    )
    run = backup_host.backups.succeed()
    assert "zmanim" in {part["name"] for part in backup_host.backups.record(run)["databases"]}
    journal = backup_host.run("journalctl --no-pager --output=cat --unit=zmanim-database-access --boot")
    for words in ("is called a template", "lets nobody connect", "limits its connections", "keeps the backup out"):
        assert f"the database zmanim {words}" in journal
    assert images.query(machine, "SELECT 1") == "1"
