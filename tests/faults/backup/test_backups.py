"""Everything that can go wrong with a backup on its machine: a clear message, a failed unit, a mail, nothing half that
could be restored, and a next run that succeeds."""

from __future__ import annotations

import json

import pytest

from tests.support.machines.backups import STATE, UNIT, restic_script
from tests.support.machines.lab import wait_for
from tests.support.machines.patient import POINTS, Patient, dying_dump, held


@pytest.mark.incident("pg_dump | restic --stdin kept truncated snapshots, and they pushed the good ones out")
@pytest.mark.parametrize(
    ("percent", "code", "words"),
    [
        (0, 1, "command failed"),
        (50, 1, "command failed"),
        (99, 1, "command failed"),
        (0, 0, "gave nothing, or not all"),
        # Killed so that nobody noticed: only reading to the end finds it; pg_restore --list would not.
        (99, 0, "the dump in the repository is not whole"),
    ],
)
def test_a_dump_that_is_not_whole_is_no_backup(
    patient: Patient, good: str, percent: int, code: int, words: str
) -> None:
    with dying_dump(patient, percent, code):
        patient.check_refusal(words, good=good)
    assert patient.backups.succeed() != good


@pytest.mark.parametrize(
    ("unit", "words"), [("postgresql", "connection to server on socket .* failed"), ("redis", "redis.sock")]
)
def test_a_server_that_is_down_is_a_failed_backup(patient: Patient, good: str, unit: str, words: str) -> None:
    patient.run(f"systemctl stop {unit}")
    try:
        patient.check_refusal(words, good=good)
    finally:
        patient.run(f"systemctl start {unit} zmanim-api")
    patient.backups.succeed()


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_backup_is_in_nobody_s_way(patient: Patient, good: str, signal: str, point: str) -> None:
    with held(patient, point):
        patient.run(f"systemctl kill --signal={signal} {UNIT}")
        patient.check_refusal(f"status=[0-9]+/{signal}", good=good, started=True)
    patient.backups.succeed()
    assert patient.run("ls -A /data/backup") == "lock"


@pytest.mark.parametrize("point", POINTS)
def test_after_a_power_cut_nothing_half_is_restored_and_the_next_run_succeeds(
    patient: Patient, good: str, point: str
) -> None:
    boots = len(patient.images.ready_reports(patient.machine))
    with held(patient, point):
        patient.images.ec2.stop_instances(InstanceIds=[patient.machine], Force=True)
        patient.images.wait_state(patient.machine, "stopped")
        patient.images.ec2.start_instances(InstanceIds=[patient.machine])
        patient.images.expect_ready(patient.machine, boot=boots + 1)
    # Some parts of it are there, and no record.
    assert patient.backups.listed()[0]["state"] == "incomplete"
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()
    assert patient.run("ls -A /data/backup") == "lock"


def test_another_host_s_lock_fails_the_retention_and_not_the_backup(patient: Patient, good: str) -> None:
    kept = set(patient.run(restic_script("list locks")).split())
    lock = "(restic backup --host x --stdin-filename x --stdin-from-command -- sleep 60 & echo $! >/run/pid; wait)"
    script = restic_script("version").replace("restic version", f"unshare --uts bash -c 'hostname other; {lock}'")
    # In a file: systemd-run would put its own variables in the place of the script's.
    patient.run(f"cat >/run/locker.sh <<'END'\n{script}\nEND\nsystemd-run --unit=locker --quiet bash /run/locker.sh")
    wait_for(lambda: set(patient.run(restic_script("list locks")).split()) - kept, 30, "a lock")
    # Without its child the script ends, and systemd may have forgotten its unit before it is asked.
    patient.run("kill -KILL $(cat /run/pid); systemctl stop locker 2>/dev/null || ! systemctl is-active --quiet locker")
    # Something that retention removes: a second run of today.
    patient.check_refusal("is locked, by another run or by one that was killed", good="")
    newest = patient.backups.complete()[0]["run"]
    assert newest != good
    # What 30 minutes do: the lock is nobody's.
    patient.run(restic_script("unlock --remove-all"))
    patient.backups.succeed()


def test_a_full_volume_fails_the_backup_and_leaves_no_half_file(patient: Patient, good: str) -> None:
    # As root, who may use what is reserved too; to the last block.
    patient.run(
        "fallocate --length=$(($(df --output=avail --block-size=1 /data | tail -n 1) - 8192)) /data/full || true"
    )
    patient.run("dd if=/dev/zero of=/data/full2 bs=4096 2>/dev/null || true")
    try:
        patient.check_refusal("No space left|redis.rdb|Error writing", good="")
    finally:
        patient.run("rm -f /data/full /data/full2")
    patient.run("systemctl start postgresql redis zmanim-api")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()
    assert patient.run("ls -A /data/backup") == "lock"


def test_two_at_once_are_one(patient: Patient, good: str) -> None:
    patient.backups.begin()
    wait_for(lambda: "of cluster" in patient.backups.journal(), 60, "the first one's beginning")
    second = patient.images.try_run(
        patient.machine,
        "systemd-run --quiet --wait --pipe --property=User=zmanim-backup --property=SupplementaryGroups=redis"
        " --property=EnvironmentFile=/run/zmanim/environment --property=EnvironmentFile=/etc/restic/backup.conf"
        " --property=LoadCredential=backup:/run/zmanim/secrets/backup /opt/zmanim/backup.sh",
    )
    assert second["Status"] == "Failed"
    assert "another backup is running on this machine" in second["StandardErrorContent"]
    assert patient.backups.wait()
    assert patient.backups.complete()[0]["run"] != good


@pytest.mark.incident("one snapshot dated in the future outlived and hid all that followed")
def test_a_run_from_the_future_is_told_of_and_hides_nothing(patient: Patient, good: str) -> None:
    system = patient.backups.complete()[0]["system"]
    tags = f"--tag run:20400101T030000Z-abcdef --tag part:record --tag system:{system}"
    made = f"--time '2040-01-01 03:00:00' {tags} --stdin --stdin-filename /record.json"
    patient.run("echo '{}' | (" + restic_script(f"backup --quiet --host zmanim {made}") + ")")
    try:
        patient.check_refusal("are dated in the future: 20400101T030000Z-abcdef", good="")
        runs = patient.backups.complete()
        assert runs[0]["future"]
        assert runs[1]["run"] not in {good, runs[0]["run"]}
        report = json.loads(patient.run("/opt/zmanim/restore.sh --latest --json"))
        assert report["run"] == runs[1]["run"]
    finally:
        result = json.loads(patient.backups.restic("snapshots --json --tag run:20400101T030000Z-abcdef"))
        patient.backups.restic(f"forget --quiet {result[0]['id']}")
    patient.backups.succeed()


def test_what_is_there_in_the_end_is_what_was_put_there(patient: Patient) -> None:
    run = patient.backups.succeed()
    before = patient.run(STATE)
    report = json.loads(patient.run(f"/opt/zmanim/restore.sh --run {run} --json"))
    assert report["run"] == run
    assert patient.run(STATE) == before
