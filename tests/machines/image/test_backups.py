"""Backups that restore: by the real timer, on another machine, and by whoever is asked from outside."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support.machines.backups import STATE, Backups, seed
from tests.support.machines.image import VERSION, ImageLab
from tests.support.machines.lab import wait_for

# A name of this run's own: in a cloud that is kept, the last run's cluster owns the last run's backups.
ENVIRONMENT = f"backups-{secrets.token_hex(2)}"


@pytest.fixture(scope="module")
def source(images: ImageLab) -> Iterator[Backups]:
    """Return a machine that has data, and one backup of it that its own timer has started."""
    images.prepare(ENVIRONMENT)
    machine = images.serve(ENVIRONMENT)
    seed(images, machine)
    yield Backups(images, machine)
    images.terminate(machine)


def test_the_timer_makes_a_backup_whose_record_says_what_is_in_it(images: ImageLab, source: Backups) -> None:
    machine = source.machine
    # The timer itself, whose moment comes at once: a boot has been long enough ago.
    images.run(
        machine,
        "mkdir -p /run/systemd/system/restic-backup.timer.d; cd /run/systemd/system/restic-backup.timer.d;"
        " printf '[Timer]\\nOnBootSec=1s\\nRandomizedDelaySec=0\\n' >now.conf; systemctl daemon-reload;"
        " systemctl restart restic-backup.timer",
    )
    wait_for(lambda: "is complete" in source.journal(), 120, "a complete run")
    wait_for(lambda: source.result() == "success", 60, "the unit's end")
    assert images.run(machine, "systemctl show --property=LastTriggerUSec --value restic-backup.timer") != ""
    run = source.complete()[0]
    assert run["bytes"] > 0
    record = source.record(run["run"])
    assert record["instance_id"] == machine
    assert record["image_version"] == VERSION
    zmanim = next(part for part in record["databases"] if part["name"] == "zmanim")
    assert zmanim["rows"]["public.places"] == 300
    assert {"postgis", "vector", "pg_cron"} <= zmanim["extensions"].keys()
    assert next(part for part in record["databases"] if part["name"] == "second")["rows"] == {"public.things": 7}
    assert "reader" in record["globals"]["roles"]
    # The API's own keys are there too; of ours, two never expire and one does.
    assert record["redis"]["lasting"] >= 2
    assert record["redis"]["expiring"] >= 1
    assert images.run(machine, "ls -A /data/backup") == "complete"
    metrics = images.client("cloudwatch").list_metrics(Namespace=f"zmanim/{ENVIRONMENT}")["Metrics"]
    assert "BackupCompleted" in {metric["MetricName"] for metric in metrics}


@pytest.mark.fault(
    26,
    injected="a snapshot restored to a machine whose append-only file is on",
    must="every key and expiry is there",
)
@pytest.mark.fault(
    41,
    injected="a new machine, the bucket and the password",
    must="rows, roles, geometries, vectors, keys and expiries are what they were",
)
@pytest.mark.incident("the documented restore read the wrong snapshot")
def test_another_machine_has_every_row_role_geometry_vector_key_and_expiry_back(
    images: ImageLab, source: Backups
) -> None:
    if not source.complete():
        source.succeed()
    before = images.run(source.machine, STATE)
    listed = source.complete()
    other = Backups(images, images.serve(ENVIRONMENT))
    # The empty instance beside production changes nothing, however often its timer comes.
    refused = other.fail()
    assert "are of cluster" in refused
    assert "nothing was written and nothing removed" in refused
    assert source.complete() == listed
    api = "systemctl stop zmanim-api"
    images.run(other.machine, f"{api}; /opt/zmanim/restore.sh --run {listed[0]['run']} --replace --yes")
    images.run(other.machine, "systemctl start zmanim-api; systemctl reset-failed; systemctl restart zmanim-ready")
    assert images.ready_reports(other.machine)[-1]["ok"]
    assert images.run(other.machine, STATE) == before
    ttl = int(images.redis(other.machine, "TTL passing"))
    assert 0 < ttl <= 5000
    assert images.run(other.machine, "ls -d /data/before-*") == f"/data/before-{listed[0]['run']}"
    # And the API's rights in it are what they were: it writes.
    images.query(other.machine, "INSERT INTO places (id) VALUES (1000); DELETE FROM places WHERE id = 1000")
    # Only who adopts them goes on with these backups, and the one before may not any longer.
    assert "are of cluster" in other.fail()
    output = json.loads(images.task("backup.adopt", "--instance", other.machine, "--json"))["output"]
    assert "adopted: " in output
    other.succeed()
    assert "are of cluster" in source.fail()
    images.task("backup.adopt", "--instance", source.machine)
    source.succeed()
    images.terminate(other.machine)


@pytest.mark.fault(
    41,
    injected="a drill beside what is live",
    must="the newest run is restored and compared, nothing live changes, its seconds are told",
)
def test_a_drill_restores_beside_what_is_live_and_tells_how_long_it_took(images: ImageLab, source: Backups) -> None:
    if not source.complete():
        source.succeed()
    before = images.run(source.machine, STATE)
    report = json.loads(images.task("backup.drill", "--environment", ENVIRONMENT, "--json"))
    assert report["run"] == source.complete()[0]["run"]
    assert report["rows"] >= 307
    assert report["age"] > 0
    assert images.run(source.machine, STATE) == before
    assert images.run(source.machine, "ls -A /data/backup") == "complete"
    metrics = images.client("cloudwatch").list_metrics(Namespace=f"zmanim/{ENVIRONMENT}")["Metrics"]
    assert {"RestoreDrillSeconds", "RestoreDrillDataAge"} <= {metric["MetricName"] for metric in metrics}


def test_a_backup_is_made_listed_and_restored_from_outside(images: ImageLab, source: Backups) -> None:
    made = json.loads(images.task("backup.now", "--environment", ENVIRONMENT, "--json"))
    listed: list[dict[str, Any]] = json.loads(images.task("backup.list", "--instance", source.machine, "--json"))
    assert listed[0]["run"] == made["run"]
    images.query(source.machine, "DELETE FROM places WHERE id > 10")
    beside = json.loads(images.task("backup.restore", "--instance", source.machine, "--run", made["run"], "--json"))
    assert (beside["run"], images.query(source.machine, "SELECT count(*) FROM places")) == (made["run"], "10")
    replaced = ("backup.restore", "--instance", source.machine, "--run", made["run"], "--replace", "--yes", "--json")
    assert json.loads(images.task(*replaced))["run"] == made["run"]
    assert images.query(source.machine, "SELECT count(*) FROM places") == "300"
    images.run(source.machine, "systemctl restart zmanim-ready; systemctl is-active zmanim-api")
    images.task("backup.adopt", "--instance", source.machine)
    source.succeed()


@pytest.mark.fault(
    41,
    injected="nothing left but an image and the bucket",
    must="a new machine serves the newest run, and its seconds are told",
)
def test_an_image_and_the_bucket_are_enough_for_a_machine_that_serves(images: ImageLab, source: Backups) -> None:
    if not source.complete():
        source.succeed()
    # Proven they may be meanwhile.
    listed = [run["run"] for run in source.listed()]
    output = images.task("recovery-drill", "--version", VERSION, "--environment", ENVIRONMENT, "--json")
    report = json.loads(output)
    assert report["run"] == listed[0]
    assert report["rows"] >= 307
    assert 0 < report["empty_seconds"] < report["healthy_seconds"]
    assert [run["run"] for run in source.listed()] == listed


@pytest.mark.incident("a stolen instance role could have removed every backup for good")
def test_what_an_instance_s_rights_can_delete_can_be_had_back(images: ImageLab, source: Backups) -> None:
    if not source.complete():
        source.succeed()
    run = source.complete()[0]["run"]
    bucket, s3 = bucket_name("backups", ENVIRONMENT), images.client("s3")
    # With the machine's own role: no version, and nothing that keeps versions.
    version = s3.list_object_versions(Bucket=bucket, MaxKeys=1)["Versions"][0]
    for tried in (
        f"delete-object --key {version['Key']} --version-id {version['VersionId']}",
        "put-bucket-versioning --versioning-configuration Status=Suspended",
        "delete-bucket-lifecycle",
        "delete-bucket-policy",
        "delete-bucket",
    ):
        refused = images.try_run(source.machine, f"aws s3api {tried} --bucket {bucket}")
        assert "AccessDenied" in refused["StandardErrorContent"], (tried, refused)
    # But all that there is, as a thief would.
    deleted = images.run(source.machine, f"aws s3 rm --recursive --only-show-errors s3://{bucket}/; echo done")
    assert deleted == "done"
    assert s3.list_objects_v2(Bucket=bucket)["KeyCount"] == 0
    assert (
        "there is no repository"
        in images.try_run(source.machine, "/opt/zmanim/restore.sh --latest")["StandardErrorContent"]
    )
    # With the account's: the marks go, and what they hid is there.
    pages = s3.get_paginator("list_object_versions").paginate(Bucket=bucket)
    delete_markers = [
        {"Key": marker["Key"], "VersionId": marker["VersionId"]}
        for page in pages
        for marker in page.get("DeleteMarkers", [])
        if marker["IsLatest"] and not re.search(r"/locks/", marker["Key"])
    ]
    assert delete_markers
    for marker in delete_markers:
        s3.delete_object(Bucket=bucket, **marker)
    report = json.loads(images.run(source.machine, f"/opt/zmanim/restore.sh --run {run} --json"))
    assert report["run"] == run
