"""Whose the backups are: the cluster's on its own volume, wherever that goes, and never a copy's."""

from __future__ import annotations

import pytest

from tests.support.machines.backup_host import BackupHost, go_on, held
from tests.support.machines.backups import Backups
from tests.support.machines.image import ZONE
from tests.support.machines.lab import wait_for


@pytest.mark.incident("a machine on a copy of the volume pushed production's backups out, and hid their silence")
def test_a_copy_of_the_volume_is_refused_and_mailed_and_one_adoption_away(backup_host: BackupHost, good: str) -> None:
    images, ours = backup_host.images, backup_host.backups
    volume = images.volume_of(ours.machine)
    assert ours.record(good)["volume"] == volume
    listed = ours.listed()
    snapshot = images.ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    copy = images.ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=ZONE, VolumeType="gp3")["VolumeId"]
    # Machines share a kernel here, which mounts no file system twice: the first one goes while its copy is there.
    boots = len(images.ready_reports(ours.machine))
    images.ec2.stop_instances(InstanceIds=[ours.machine])
    images.wait_state(ours.machine, "stopped")
    machine = images.start_with(copy, environment=backup_host.environment)
    images.expect_ready(machine)
    other = Backups(images, machine)
    refused = other.fail()
    assert f"are of the volume {volume}, and this machine has its data on {copy}, a copy" in refused
    assert "./inv backup.adopt" in refused
    assert other.listed() == listed
    assert copy in backup_host.mail_about()["body"]
    # In an emergency the copy is what there is.
    images.task("backup.adopt", "--instance", machine)
    other.succeed()
    images.terminate(machine)
    images.ec2.start_instances(InstanceIds=[ours.machine])
    images.expect_ready(ours.machine, boot=boots + 1)
    backup_host.forget_mails()
    assert f"are of the volume {copy}" in ours.fail()
    images.task("backup.adopt", "--instance", ours.machine)
    ours.succeed()


@pytest.mark.incident("an adoption was undone by a run that was on its way already")
def test_an_adoption_elsewhere_leaves_a_run_that_is_on_its_way_without_a_record(
    backup_host: BackupHost, good: str
) -> None:
    images, ours = backup_host.images, backup_host.backups
    machine = images.serve(backup_host.environment)
    with held(backup_host, "between the parts"):
        images.task("backup.adopt", "--instance", machine)
        go_on(backup_host)
        assert not ours.wait()
    assert "are of cluster" in ours.journal()
    assert ours.complete()[0]["run"] == good
    images.task("backup.adopt", "--instance", ours.machine)
    ours.succeed()
    images.terminate(machine)


def test_a_restore_beside_a_backup_is_told_who_holds_the_lock_and_how_to_end_it(
    backup_host: BackupHost, good: str
) -> None:
    with held(backup_host, "between the parts"):
        for words in ("--latest --json", "--adopt"):
            refused = backup_host.images.try_run(backup_host.machine, f"/opt/zmanim/restore.sh {words}")
            assert "is running on this machine: restic-backup.service (process" in refused["StandardErrorContent"]
            assert "To end it: systemctl stop restic-backup.service" in refused["StandardErrorContent"]
        backup_host.run("systemctl stop restic-backup.service")
    backup_host.backups.succeed()


def test_a_drill_gives_way_to_a_backup(backup_host: BackupHost, good: str) -> None:
    drill = "backup-drill.service"
    backup_host.run("printf '#!/bin/bash\\nexec sleep 1234\\n' >/usr/local/bin/initdb; chmod 755 /usr/local/bin/initdb")
    try:
        backup_host.run(f"systemctl start --no-block {drill}")
        wait_for(lambda: backup_host.run("pgrep --full '^sleep 1234' || true"), 60, "a drill that waits")
        backup_host.backups.succeed()
        assert backup_host.images.active(backup_host.machine, drill)[drill] == "inactive"
    finally:
        backup_host.run("rm -f /usr/local/bin/initdb")
    backup_host.run_long(f"systemctl start {drill}")
