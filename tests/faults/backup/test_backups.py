"""Everything that can go wrong with a backup on its machine: a clear message, a failed unit, a mail, nothing half that
could be restored, and a next run that succeeds."""

from __future__ import annotations

import json

import pytest

from tests.support.machines.backup_host import POINTS, BackupHost, dying_dump, held
from tests.support.machines.backups import STATE, UNIT, restic_script
from tests.support.machines.lab import wait_for


@pytest.mark.fault(
    29,
    injected="a pg_dump that ends with 1 after 0, 50 and 99 % of its output, and one that ends with 0 after 99 %",
    must="the run fails by mail, --latest still picks the last good one, the next succeeds",
)
@pytest.mark.fault(
    31,
    injected="a pg_dump that writes nothing and ends with 0",
    must="the run fails by mail, --latest still picks the last good one, the next succeeds",
)
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
    backup_host: BackupHost, good: str, percent: int, code: int, words: str
) -> None:
    with dying_dump(backup_host, percent, code):
        backup_host.check_refusal(words, good=good)
    assert backup_host.backups.succeed() != good


@pytest.mark.fault(
    30,
    injected="PostgreSQL, or Redis, stopped",
    must="the run fails by mail with the server's words, --latest still picks the last good one, the next succeeds",
)
@pytest.mark.parametrize(
    ("unit", "words"), [("postgresql", "connection to server on socket .* failed"), ("redis", "redis.sock")]
)
def test_a_server_that_is_down_is_a_failed_backup(backup_host: BackupHost, good: str, unit: str, words: str) -> None:
    backup_host.run(f"systemctl stop {unit}")
    try:
        backup_host.check_refusal(words, good=good)
    finally:
        backup_host.run(f"systemctl start {unit} zmanim-api")
    backup_host.backups.succeed()


@pytest.mark.fault(
    32,
    injected="SIGTERM and SIGKILL at three moments of a run",
    must="it fails by mail, --latest still picks the last good one, the next succeeds and leaves no file",
)
@pytest.mark.parametrize("signal", ["TERM", "KILL"])
@pytest.mark.parametrize("point", POINTS)
def test_a_killed_backup_is_in_nobody_s_way(backup_host: BackupHost, good: str, signal: str, point: str) -> None:
    with held(backup_host, point):
        backup_host.run(f"systemctl kill --signal={signal} {UNIT}")
        backup_host.check_refusal(f"status=[0-9]+/{signal}", good=good, started=True)
    backup_host.backups.succeed()
    assert backup_host.run("ls -A /data/backup") == "complete"


@pytest.mark.fault(
    32,
    injected="a power cut at three moments of a run",
    must="what is there of it is called incomplete and never restored, the next succeeds",
)
@pytest.mark.parametrize("point", POINTS)
def test_after_a_power_cut_nothing_half_is_restored_and_the_next_run_succeeds(
    backup_host: BackupHost, good: str, point: str
) -> None:
    boots = len(backup_host.images.ready_reports(backup_host.machine))
    with held(backup_host, point):
        backup_host.images.ec2.stop_instances(InstanceIds=[backup_host.machine], Force=True)
        backup_host.images.wait_state(backup_host.machine, "stopped")
        backup_host.images.ec2.start_instances(InstanceIds=[backup_host.machine])
        backup_host.images.expect_ready(backup_host.machine, boot=boots + 1)
    # Some parts of it are there, and no record.
    assert backup_host.backups.listed()[0]["state"] == "incomplete"
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()
    assert backup_host.run("ls -A /data/backup") == "complete"


@pytest.mark.fault(
    34,
    injected="a lock of another host in the repository",
    must="the run is complete, its retention fails by mail and names the lock; the next succeeds",
)
def test_another_host_s_lock_fails_the_retention_and_not_the_backup(backup_host: BackupHost, good: str) -> None:
    existing = set(backup_host.run(restic_script("list locks")).split())
    lock = "(restic backup --host x --stdin-filename x --stdin-from-command -- sleep 60 & echo $! >/run/pid; wait)"
    script = restic_script("version").replace("restic version", f"unshare --uts bash -c 'hostname other; {lock}'")
    # In a file: systemd-run would put its own variables in the place of the script's.
    backup_host.run(
        f"cat >/run/locker.sh <<'END'\n{script}\nEND\nsystemd-run --unit=locker --quiet bash /run/locker.sh"
    )
    wait_for(lambda: set(backup_host.run(restic_script("list locks")).split()) - existing, 30, "a lock")
    # Without its child the script ends, and systemd may have forgotten its unit before it is asked.
    backup_host.run(
        "kill -KILL $(cat /run/pid); systemctl stop locker 2>/dev/null || ! systemctl is-active --quiet locker"
    )
    # Something that retention removes: a second run of today.
    backup_host.check_refusal("is locked, by another run or by one that was killed", good="")
    newest = backup_host.backups.complete()[0]["run"]
    assert newest != good
    # What 30 minutes do: the lock is nobody's.
    backup_host.run(restic_script("unlock --remove-all"))
    backup_host.backups.succeed()


@pytest.mark.fault(
    20,
    injected="a full data volume when a backup begins",
    must="the backup fails with that reason, by mail; the last good run stays, and the next succeeds",
)
def test_a_full_volume_fails_the_backup_and_leaves_no_half_file(backup_host: BackupHost, good: str) -> None:
    # As root, who may use what is reserved too; to the last block.
    backup_host.run(
        "fallocate --length=$(($(df --output=avail --block-size=1 /data | tail -n 1) - 8192)) /data/full || true"
    )
    backup_host.run("dd if=/dev/zero of=/data/full2 bs=4096 2>/dev/null || true")
    try:
        backup_host.check_refusal("No space left|redis.rdb|Error writing", good="")
    finally:
        backup_host.run("rm -f /data/full /data/full2")
    backup_host.run("systemctl start postgresql redis zmanim-api")
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()
    assert backup_host.run("ls -A /data/backup") == "complete"


@pytest.mark.fault(
    37,
    injected="a second backup beside one that runs",
    must="it is refused and names the first, which is complete",
)
def test_two_at_once_are_one(backup_host: BackupHost, good: str) -> None:
    backup_host.backups.begin()
    wait_for(lambda: "of cluster" in backup_host.backups.journal(), 60, "the first one's beginning")
    second = backup_host.images.try_run(
        backup_host.machine,
        "systemd-run --quiet --wait --pipe --property=User=zmanim-backup --property=SupplementaryGroups=redis"
        " --property=EnvironmentFile=/run/zmanim/environment --property=EnvironmentFile=/run/zmanim/account"
        " --property=EnvironmentFile=/etc/restic/backup.conf"
        " --property=LoadCredential=backup:/run/zmanim/secrets/backup /opt/zmanim/backup.sh",
    )
    assert second["Status"] == "Failed"
    assert "is running on this machine: restic-backup.service" in second["StandardErrorContent"]
    assert backup_host.backups.wait()
    assert backup_host.backups.complete()[0]["run"] != good


@pytest.mark.fault(
    38,
    injected="a run in the repository that is dated in the future",
    must="it is named by mail, takes nobody's place, and --latest picks the newest real one",
)
@pytest.mark.incident("one snapshot dated in the future outlived and hid all that followed")
def test_a_run_from_the_future_is_told_of_and_hides_nothing(backup_host: BackupHost, good: str) -> None:
    system = backup_host.backups.complete()[0]["system"]
    tags = f"--tag run:20400101T030000Z-abcdef --tag part:record --tag system:{system}"
    made = f"--time '2040-01-01 03:00:00' {tags} --stdin --stdin-filename /record.json"
    backup_host.run("echo '{}' | (" + restic_script(f"backup --quiet --host zmanim {made}") + ")")
    try:
        backup_host.check_refusal("are dated in the future: 20400101T030000Z-abcdef", good="")
        runs = backup_host.backups.complete()
        assert runs[0]["future"]
        assert runs[1]["run"] not in {good, runs[0]["run"]}
        report = json.loads(backup_host.run("/opt/zmanim/restore.sh --latest --json"))
        assert report["run"] == runs[1]["run"]
    finally:
        result = json.loads(backup_host.backups.restic("snapshots --json --tag run:20400101T030000Z-abcdef"))
        backup_host.backups.restic(f"forget --quiet {result[0]['id']}")
    backup_host.backups.succeed()


@pytest.mark.fault(
    38,
    injected="a run of a clock that was 14 years ahead, dated anew",
    must="it is listed with its new date and can be restored",
)
@pytest.mark.incident("dating a run anew, as the page said, left one that could not be restored")
def test_a_run_that_is_dated_anew_can_be_restored(backup_host: BackupHost, good: str) -> None:
    run = backup_host.backups.succeed()
    # As a machine would have left it whose clock was 14 years ahead.
    for snapshot in json.loads(backup_host.backups.restic(f"snapshots --json --tag run:{run}")):
        backup_host.backups.restic(f"rewrite --quiet --forget --new-time '2040-01-01 03:00:00' {snapshot['id']}")
    assert backup_host.backups.complete()[0]["future"]
    backup_host.run_long(f"/opt/zmanim/restore.sh --redate {run} --date '2026-11-24 03:00:00'")
    (listed,) = [each for each in backup_host.backups.complete() if each["run"] == run]
    assert (listed["time"], listed["future"]) == ("2026-11-24T03:00:00Z", False)
    report = json.loads(backup_host.run_long(f"/opt/zmanim/restore.sh --run {run} --json"))
    assert report["run"] == run
    assert report["age"] > 0


def test_what_is_there_in_the_end_is_what_was_put_there(backup_host: BackupHost) -> None:
    run = backup_host.backups.succeed()
    before = backup_host.run(STATE)
    report = json.loads(backup_host.run(f"/opt/zmanim/restore.sh --run {run} --json"))
    assert report["run"] == run
    assert backup_host.run(STATE) == before
