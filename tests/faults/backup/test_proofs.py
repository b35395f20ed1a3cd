"""A run that is complete and can't be restored is kept, mailed with what is wrong, and pushes no proven one out."""

from __future__ import annotations

import pytest

from tests.support.machines.backup_host import WITHOUT_PROOFS, BackupHost, dying_dump
from tests.support.machines.lab import wait_for

PROOF = "backup-proof.service"
# pg_dump writes it as it is, and pg_restore has no search_path: the function is not found when a row is loaded, and
# only then.
_BROKEN = """
CREATE FUNCTION inner_name(text) RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT lower($1)';
CREATE FUNCTION outer_name(text) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$ BEGIN RETURN inner_name($1); END $$;
CREATE TABLE broken (name text, small text GENERATED ALWAYS AS (outer_name(name)) STORED);
INSERT INTO broken (name) VALUES ('A');
"""


def proof(host: BackupHost) -> str:
    """Wait for the end of the proof that a backup has started, and return what it said."""
    state = f"systemctl show --property=ActiveState --value {PROOF}"
    wait_for(lambda: host.run(state) in {"inactive", "failed"}, 300, f"{PROOF}'s end")
    return host.run(f"journalctl --no-pager --output=cat --boot --unit={PROOF}")


@pytest.mark.incident("a generated column called a function by an unqualified name: whole every night, and no restore")
def test_a_run_that_can_t_be_loaded_is_kept_and_told_and_the_proven_one_stays(
    backup_host: BackupHost, good: str
) -> None:
    images, ours = backup_host.images, backup_host.backups
    backup_host.run(f"rm -f {WITHOUT_PROOFS}; systemctl daemon-reload")
    ours.succeed()
    proof(backup_host)
    runs = {run["run"]: run for run in ours.complete()}
    assert any(run["proven"] for run in runs.values()), runs
    images.query(backup_host.machine, _BROKEN)
    backup_host.forget_mails()
    run = ours.succeed()
    output = proof(backup_host)
    assert "the newest run has to be proven: the schema of zmanim has changed" in output
    assert "inner_name" in output
    assert "inner_name" in backup_host.mail_about(PROOF)["body"]
    listed = {each["run"]: each for each in ours.complete()}
    assert not listed[run]["proven"]
    assert any(each["proven"] for each in listed.values()), "the newest proven run is never removed"
    # And what mends it is proven without anybody's hand.
    images.query(
        backup_host.machine, "DROP TABLE broken; DROP FUNCTION outer_name(text); DROP FUNCTION inner_name(text)"
    )
    images.query(backup_host.machine, "CREATE TABLE whole (name text)")
    run = ours.succeed()
    proof(backup_host)
    assert next(each for each in ours.complete() if each["run"] == run)["proven"]
    # Nothing is new from one night to the next: nothing is restored for it.
    images.query(backup_host.machine, "INSERT INTO places (id) VALUES (2000)")
    run = ours.succeed()
    assert "nothing has to be proven" in proof(backup_host)
    assert not next(each for each in ours.complete() if each["run"] == run)["proven"]


@pytest.mark.incident(
    "a proof whose time was up failed by restic's own death, was mailed, or went on without any limit"
)
def test_a_proof_whose_time_is_up_is_put_off_and_told(backup_host: BackupHost, good: str) -> None:
    images, ours = backup_host.images, backup_host.backups
    backup_host.run(f"rm -f {WITHOUT_PROOFS}; systemctl daemon-reload")
    images.query(backup_host.machine, "CREATE TABLE slow (n int)")
    configuration = "/etc/restic/backup.conf"
    seconds = "sed -i s/^BACKUP_PROOF_SECONDS=.*/BACKUP_PROOF_SECONDS=4/"
    backup_host.run(f"cp -p {configuration} /run/before; {seconds} {configuration}")
    try:
        run = ours.succeed()
        output = proof(backup_host)
    finally:
        backup_host.run(f"cp -p /run/before {configuration}")
    assert "the newest run is not proven, that is put off: it is not done after 4 s" in output
    assert backup_host.run(f"systemctl show --property=Result --value {PROOF}") == "success"
    assert not next(each for each in ours.complete() if each["run"] == run)["proven"]
    own = [".zmanim-reserve", ".zmanim-volume.json", "backup", "postgres", "redis"]
    assert backup_host.run("ls -A /data").split() == own
    # With time enough it is made up for.
    backup_host.run_long(f"systemctl start {PROOF}")
    assert next(each for each in ours.complete() if each["run"] == run)["proven"]


@pytest.mark.incident(
    "systemd tells no unit that both ends of a backup start how it ended: a proof ran after each of them"
)
def test_no_proof_follows_a_backup_that_has_made_no_whole_run(backup_host: BackupHost, good: str) -> None:
    backup_host.run(f"rm -f {WITHOUT_PROOFS}; systemctl daemon-reload")
    looked = f"systemctl show --property=ConditionTimestampMonotonic --value {PROOF}"
    before = backup_host.run(looked)
    with dying_dump(backup_host, 0, 1):
        backup_host.check_refusal("command failed", good=good)
    wait_for(lambda: backup_host.run(looked) != before, 60, f"systemd's look at {PROOF}")
    assert backup_host.run(f"systemctl show --property=ConditionResult --value {PROOF}") == "no"
