"""Everything that can go wrong with a backup outside of its machine: S3, what is in the bucket, the password, SES."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.support.machines import bad_s3
from tests.support.machines.backup_host import NOTICE, POINTS, BackupHost, dying_dump, go_on, held
from tests.support.machines.backups import UNIT, restic_script
from tests.support.machines.lab import wait_for


@contextmanager
def proxied(backup_host: BackupHost, mode: str) -> Iterator[None]:
    """Put a proxy in S3's place, in that mode (s3_proxy.py)."""
    with bad_s3.proxied(backup_host.images, backup_host.machine, backup_host.bucket, mode):
        yield


def set_mode(backup_host: BackupHost, mode: str) -> None:
    """Give the proxy another mode."""
    bad_s3.set_mode(backup_host.images, backup_host.machine, mode)


@contextmanager
def away(backup_host: BackupHost, *names: str) -> Iterator[None]:
    """Let names lead to where nobody listens."""
    with bad_s3.named(backup_host.images, backup_host.machine, "127.0.0.9", *names):
        yield


@contextmanager
def short_timeout(backup_host: BackupHost, seconds: int) -> Iterator[None]:
    """Give the unit another time limit: restic by itself tries for a quarter of an hour."""
    place = f"/run/systemd/system/{UNIT}.d"
    limit = f"[Service]\\nTimeoutStartSec={seconds}\\n"
    backup_host.run(f"mkdir -p {place}; printf '{limit}' >{place}/limit.conf; systemctl daemon-reload")
    try:
        yield
    finally:
        backup_host.run(f"rm -r {place}; systemctl daemon-reload")


@pytest.mark.fault(
    33,
    injected="S3 that nobody answers for",
    must="the run fails at once with those words, by mail; the next succeeds",
)
def test_an_s3_that_is_away_is_told_before_anything_is_tried(backup_host: BackupHost, good: str) -> None:
    with away(backup_host, *bad_s3.names(backup_host.bucket)):
        backup_host.check_refusal("S3 can't be reached", good="")
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()


@pytest.mark.fault(
    33,
    injected="S3 that goes away at three moments of a run",
    must="the run ends with its time limit, the mail says what the time went by with; the next succeeds",
)
@pytest.mark.parametrize("point", POINTS)
def test_an_s3_that_goes_away_ends_with_the_unit_s_limit(backup_host: BackupHost, good: str, point: str) -> None:
    with proxied(backup_host, "ok"), short_timeout(backup_host, 75):
        with held(backup_host, point):
            set_mode(backup_host, "away")
            go_on(backup_host)
            # Who reads the mail learns what the time went by with.
            trouble = r"trouble with S3: \w+\(<.*returned error, retrying after"
            backup_host.check_refusal("start operation timed out", trouble, good="", started=True)
        assert backup_host.backups.result() == "timeout"
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()


@pytest.mark.fault(33, injected="S3 that goes away at three moments and comes back", must="the run succeeds")
@pytest.mark.parametrize("point", POINTS)
def test_an_s3_that_comes_back_loses_nothing(backup_host: BackupHost, good: str, point: str) -> None:
    with proxied(backup_host, "ok"), held(backup_host, point):
        set_mode(backup_host, "away")
        go_on(backup_host)
        wait_for(lambda: backup_host.run("ls /run/proxy.mode.refused || true"), 60, "a request that failed")
        set_mode(backup_host, "ok")
        assert backup_host.backups.wait(), backup_host.backups.journal()
    assert backup_host.backups.complete()[0]["run"] != good


@pytest.mark.fault(
    33,
    injected="S3 that answers 403 from the start",
    must="the run fails with those words, by mail; the next succeeds",
)
def test_denied_access_is_called_that_and_makes_nothing(backup_host: BackupHost, good: str) -> None:
    with proxied(backup_host, "denied"):
        backup_host.check_refusal("S3 denies access", good="")
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()


@pytest.mark.fault(
    33,
    injected="S3 that answers 403 from three moments of a run on",
    must="the run fails with those words, by mail; the next succeeds",
)
@pytest.mark.parametrize("point", POINTS)
def test_access_that_is_denied_from_some_moment_on_is_called_that(
    backup_host: BackupHost, good: str, point: str
) -> None:
    with proxied(backup_host, "ok"), held(backup_host, point):
        set_mode(backup_host, "denied")
        go_on(backup_host)
        backup_host.check_refusal("S3 denies access", good="", started=True)
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()


@pytest.mark.fault(33, injected="a slow S3", must="the run succeeds")
def test_a_slow_s3_only_takes_longer(backup_host: BackupHost, good: str) -> None:
    with proxied(backup_host, "slow"):
        assert backup_host.backups.succeed() != good


@pytest.mark.fault(
    38,
    injected="a clock that is 20 minutes, or a day, ahead of S3's or behind it",
    must="nothing is backed up and nothing removed, the mail says by how much; with the right time the next succeeds",
)
@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (-1200, "20 minutes ahead of S3's"),
        (1200, "20 minutes behind S3's"),
        (-86400, "1440 minutes ahead of S3's"),
        (86400, "1440 minutes behind S3's"),
    ],
)
def test_a_clock_that_s3_refuses_is_called_that_and_makes_nothing(
    backup_host: BackupHost, good: str, seconds: int, words: str
) -> None:
    before = backup_host.backups.listed()
    with proxied(backup_host, f"skewed {seconds}"):
        backup_host.check_refusal(f"this machine's clock is {words}", good="")
    assert backup_host.backups.listed() == before
    backup_host.backups.succeed()


@pytest.mark.fault(
    34,
    injected="a wrong password of the repository",
    must="the run fails and names the parameter, by mail; nothing is made, the next succeeds",
)
def test_a_wrong_password_is_called_that_and_makes_nothing(backup_host: BackupHost, good: str) -> None:
    path = "/run/zmanim/secrets/backup/restic-password"
    backup_host.run(f"cp {path} /run/kept; echo changed >{path}")
    try:
        backup_host.check_refusal(f"/zmanim/{backup_host.environment}/restic-password is not the password of", good="")
    finally:
        backup_host.run(f"cat /run/kept >{path}; rm /run/kept")
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.backups.succeed()


@pytest.mark.fault(
    36,
    injected="one flipped bit in a pack of the repository",
    must="one of four weekly checks finds it, a restore of that run fails, the next run succeeds",
)
def test_a_flipped_byte_is_found_within_four_weeks_and_by_whoever_restores_it(backup_host: BackupHost) -> None:
    # The largest pack is to be this run's: what runs that were cut short have left is nobody's.
    noise = "SELECT string_agg(md5(random()::text), '') AS text FROM generate_series(1, 30000)"
    backup_host.images.query(backup_host.machine, f"CREATE TABLE noise AS {noise}")
    good = backup_host.backups.succeed()
    s3 = backup_host.images.client("s3")
    packs = s3.list_objects_v2(Bucket=backup_host.bucket, Prefix="restic/data/")["Contents"]
    key = max(packs, key=lambda item: item["Size"])["Key"]
    whole = s3.get_object(Bucket=backup_host.bucket, Key=key)["Body"].read()
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0x01
    s3.put_object(Bucket=backup_host.bucket, Key=key, Body=bytes(broken))
    try:
        result = [
            backup_host.images.try_run(backup_host.machine, restic_script(f"check --read-data-subset={n}/4"))["Status"]
            for n in range(1, 5)
        ]
        assert sorted(result) == ["Failed", "Success", "Success", "Success"]
        # Without reading the data there is nothing to see.
        assert backup_host.images.try_run(backup_host.machine, restic_script("check"))["Status"] == "Success"
        restored = backup_host.images.try_run(backup_host.machine, f"/opt/zmanim/restore.sh --run {good}")
        assert restored["Status"] == "Failed", restored
    finally:
        s3.put_object(Bucket=backup_host.bucket, Key=key, Body=whole)
    assert backup_host.backups.succeed() != good


@pytest.mark.fault(
    40,
    injected="SES that nobody answers for when a backup fails",
    must="the mail waits on the disk and is sent once",
)
@pytest.mark.incident("the failure mails were rejected themselves, and nobody heard of it")
def test_a_mail_that_ses_does_not_take_waits_and_is_sent_once(backup_host: BackupHost, good: str) -> None:
    with away(backup_host, "email.eu-west-1.amazonaws.com"), dying_dump(backup_host, 0, 1):
        backup_host.backups.fail()
        command = f"journalctl --no-pager --output=cat --unit={NOTICE}"
        wait_for(lambda: "1 mails wait" in backup_host.run(command), 90, "a mail that waits")
        wait_for(
            lambda: backup_host.images.active(backup_host.machine, NOTICE)[NOTICE] != "activating",
            90,
            "the notice's end",
        )
    # Waiting is no failure: a failing notice would be one more alarm, about itself.
    assert backup_host.images.active(backup_host.machine, NOTICE)[NOTICE] == "inactive"
    assert backup_host.mails_about() == []
    assert backup_host.backups.complete()[0]["run"] == good
    backup_host.run("systemctl start backup-notify-retry")
    assert backup_host.run("ls /var/lib/zmanim-notices/waiting") == ""
    assert len(backup_host.mails_about()) == 1
    # Within the hour the same unit is counted and not mailed about again.
    with dying_dump(backup_host, 0, 1):
        backup_host.backups.fail()
    wait_for(lambda: '"withheld": 1' in backup_host.run("cat /var/lib/zmanim-notices/last-mail-*"), 60, "the count")
    assert len(backup_host.mails_about()) == 1
    backup_host.backups.succeed()


@pytest.mark.fault(
    34,
    injected="a bucket that is gone, and an empty one in its place",
    must="neither a bucket nor a repository is made before a person says so",
)
@pytest.mark.incident("restic takes a bucket that is not there for a repository that is not there yet, and makes both")
def test_a_bucket_that_is_gone_is_not_made(backup_host: BackupHost, good: str) -> None:
    s3 = backup_host.images.client("s3")
    # The first page again and again: the pages after it change while it is emptied.
    while True:
        page = s3.list_object_versions(Bucket=backup_host.bucket)
        items = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if not items:
            break
        for item in items:
            s3.delete_object(Bucket=backup_host.bucket, Key=item["Key"], VersionId=item["VersionId"])
    s3.delete_bucket(Bucket=backup_host.bucket)
    backup_host.check_refusal(f"the bucket {backup_host.bucket} is not there", good="")
    assert backup_host.bucket not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    # An empty bucket is no repository. This environment has had one, so none is begun in it before a person says so.
    backup_host.images.prepare(backup_host.environment)
    backup_host.forget_mails()
    backup_host.check_refusal("were begun at s3:", "nothing was made", "aws ssm delete-parameter", good="")
    assert s3.list_objects_v2(Bucket=backup_host.bucket)["KeyCount"] == 0
    backup_host.images.ssm.delete_parameter(Name=f"/zmanim/{backup_host.environment}/backup/repository")
    assert backup_host.backups.succeed() != good
    assert len(backup_host.backups.complete()) == 1
