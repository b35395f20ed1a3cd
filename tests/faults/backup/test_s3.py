"""Everything that can go wrong with a backup outside of its machine: S3, what is in the bucket, the password, SES."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.machines import bad_s3
from tests.support.machines.backups import UNIT, restic_script
from tests.support.machines.lab import wait_for
from tests.support.machines.patient import NOTICE, POINTS, Patient, dying_dump, go_on, held


@contextmanager
def proxied(patient: Patient, mode: str) -> Iterator[None]:
    """Put a proxy in S3's place, in that mode (s3_proxy.py)."""
    with bad_s3.proxied(patient.images, patient.machine, patient.bucket, mode):
        yield


def set_mode(patient: Patient, mode: str) -> None:
    """Give the proxy another mode."""
    bad_s3.set_mode(patient.images, patient.machine, mode)


@contextmanager
def away(patient: Patient, *names: str) -> Iterator[None]:
    """Let names lead to where nobody listens."""
    with bad_s3.named(patient.images, patient.machine, "127.0.0.9", *names):
        yield


@contextmanager
def impatient(patient: Patient, seconds: int) -> Iterator[None]:
    """Give the unit another time limit: restic by itself tries for a quarter of an hour."""
    place = f"/run/systemd/system/{UNIT}.d"
    limit = f"[Service]\\nTimeoutStartSec={seconds}\\n"
    patient.run(f"mkdir -p {place}; printf '{limit}' >{place}/limit.conf; systemctl daemon-reload")
    try:
        yield
    finally:
        patient.run(f"rm -r {place}; systemctl daemon-reload")


def test_an_s3_that_is_away_is_told_before_anything_is_tried(patient: Patient, good: str) -> None:
    with away(patient, *bad_s3.names(patient.bucket)):
        patient.check_refusal("S3 can't be reached", good="")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


@pytest.mark.parametrize("point", POINTS)
def test_an_s3_that_goes_away_ends_with_the_unit_s_limit(patient: Patient, good: str, point: str) -> None:
    with proxied(patient, "ok"), impatient(patient, 75):
        with held(patient, point):
            set_mode(patient, "away")
            go_on(patient)
            # Who reads the mail learns what the time went by with.
            trouble = r"trouble with S3: \w+\(<.*returned error, retrying after"
            patient.check_refusal("start operation timed out", trouble, good="", started=True)
        assert patient.backups.result() == "timeout"
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


@pytest.mark.parametrize("point", POINTS)
def test_an_s3_that_comes_back_loses_nothing(patient: Patient, good: str, point: str) -> None:
    with proxied(patient, "ok"), held(patient, point):
        set_mode(patient, "away")
        go_on(patient)
        wait_for(lambda: patient.run("ls /run/proxy.mode.refused || true"), 60, "a request that failed")
        set_mode(patient, "ok")
        assert patient.backups.wait(), patient.backups.journal()
    assert patient.backups.complete()[0]["run"] != good


def test_denied_access_is_called_that_and_makes_nothing(patient: Patient, good: str) -> None:
    with proxied(patient, "denied"):
        patient.check_refusal("S3 denies access", good="")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


@pytest.mark.parametrize("point", POINTS)
def test_access_that_is_denied_from_some_moment_on_is_called_that(patient: Patient, good: str, point: str) -> None:
    with proxied(patient, "ok"), held(patient, point):
        set_mode(patient, "denied")
        go_on(patient)
        patient.check_refusal("S3 denies access", good="", started=True)
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


def test_a_slow_s3_only_takes_longer(patient: Patient, good: str) -> None:
    with proxied(patient, "slow"):
        assert patient.backups.succeed() != good


def test_a_wrong_password_is_called_that_and_makes_nothing(patient: Patient, good: str) -> None:
    path = "/run/zmanim/secrets/backup/restic-password"
    patient.run(f"cp {path} /run/kept; echo changed >{path}")
    try:
        patient.check_refusal(f"/zmanim/{patient.environment}/restic-password is not the password of", good="")
    finally:
        patient.run(f"cat /run/kept >{path}; rm /run/kept")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


def test_a_flipped_byte_is_found_within_four_weeks_and_by_whoever_restores_it(patient: Patient) -> None:
    # The largest pack is to be this run's: what runs that were cut short have left is nobody's.
    noise = "SELECT string_agg(md5(random()::text), '') AS text FROM generate_series(1, 30000)"
    patient.images.query(patient.machine, f"CREATE TABLE noise AS {noise}")
    good = patient.backups.succeed()
    s3 = patient.images.client("s3")
    packs = s3.list_objects_v2(Bucket=patient.bucket, Prefix="restic/data/")["Contents"]
    key = max(packs, key=lambda item: item["Size"])["Key"]
    whole = s3.get_object(Bucket=patient.bucket, Key=key)["Body"].read()
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0x01
    s3.put_object(Bucket=patient.bucket, Key=key, Body=bytes(broken))
    try:
        result = [
            patient.images.try_run(patient.machine, restic_script(f"check --read-data-subset={n}/4"))["Status"]
            for n in range(1, 5)
        ]
        assert sorted(result) == ["Failed", "Success", "Success", "Success"]
        # Without reading the data there is nothing to see.
        assert patient.images.try_run(patient.machine, restic_script("check"))["Status"] == "Success"
        restored = patient.images.try_run(patient.machine, f"/opt/zmanim/restore.sh --run {good}")
        assert restored["Status"] == "Failed", restored
    finally:
        s3.put_object(Bucket=patient.bucket, Key=key, Body=whole)
    assert patient.backups.succeed() != good


@pytest.mark.incident("the failure mails were rejected themselves, and nobody heard of it")
def test_a_mail_that_ses_does_not_take_waits_and_is_sent_once(patient: Patient, good: str) -> None:
    with away(patient, "email.eu-west-1.amazonaws.com"), dying_dump(patient, 0, 1):
        patient.backups.fail()
        command = f"journalctl --no-pager --output=cat --unit={NOTICE}"
        wait_for(lambda: "1 mails wait" in patient.run(command), 90, "a mail that waits")
        wait_for(lambda: patient.images.active(patient.machine, NOTICE)[NOTICE] != "activating", 90, "the notice's end")
    # Waiting is no failure: a failing notice would be one more alarm, about itself.
    assert patient.images.active(patient.machine, NOTICE)[NOTICE] == "inactive"
    assert len(patient.mails()) == patient.heard
    assert patient.backups.complete()[0]["run"] == good
    patient.run("systemctl start backup-notify-retry")
    assert patient.run("ls /var/lib/zmanim-notices/waiting") == ""
    assert [mail["subject"] for mail in patient.mails()[patient.heard :]] == [
        f"zmanim {patient.environment}: {UNIT} failed"
    ]
    # Within the hour the same unit is counted and not mailed about again.
    with dying_dump(patient, 0, 1):
        patient.backups.fail()
    wait_for(lambda: '"withheld": 1' in patient.run("cat /var/lib/zmanim-notices/last-mail-*"), 60, "the count")
    assert len(patient.mails()) == patient.heard + 1
    patient.backups.succeed()


@pytest.mark.incident("restic takes a bucket that is not there for a repository that is not there yet, and makes both")
def test_a_bucket_that_is_gone_is_not_made(patient: Patient, good: str) -> None:
    s3 = patient.images.client("s3")
    # The first page again and again: the pages after it change while it is emptied.
    while True:
        page = s3.list_object_versions(Bucket=patient.bucket)
        items = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if not items:
            break
        for item in items:
            s3.delete_object(Bucket=patient.bucket, Key=item["Key"], VersionId=item["VersionId"])
    s3.delete_bucket(Bucket=patient.bucket)
    patient.check_refusal(f"the bucket {patient.bucket} is not there", good="")
    assert patient.bucket not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    # An empty bucket is no repository: now one is made.
    patient.images.prepare(patient.environment)
    assert patient.backups.succeed() != good
    assert len(patient.backups.complete()) == 1
