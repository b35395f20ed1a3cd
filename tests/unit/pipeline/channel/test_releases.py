"""Publishing to a channel and rolling it back: signed by KMS, one serial after the other, nothing lost."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from zmanim_ami.pipeline.account.keys import release_key, signing_key
from zmanim_ami.pipeline.account.requirements import check_environment
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.channel import bucket as channel
from zmanim_ami.pipeline.channel import releases
from zmanim_ami.pipeline.channel.releases import Moved, publish, rollback
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.version import parse
from zmanim_host.host import HostError
from zmanim_host.release import pointer

BUCKET = bucket_name("releases")
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@dataclass
class Channel:
    """An account with a channel, and bundles to publish to it."""

    clients: Clients
    directory: Path
    architecture: str = "aarch64"

    def bundle(self, version: str, program: str = "") -> Path:
        directory = self.directory / version
        (directory / "migrations").mkdir(parents=True, exist_ok=True)
        (directory / "zmanim-api").write_text(program or version)
        (directory / "migrations" / "20260101000000_one.sql").write_text("SELECT 1;\n")
        manifest = {"version": version, "commit": "c0ffee", "architecture": self.architecture}
        (directory / "manifest.json").write_text(json.dumps(manifest))
        return directory

    def publish(self, version: str, program: str = "", **options: Any) -> Moved:
        if "oldest_allowed" in options:
            options["oldest_allowed"] = parse(options["oldest_allowed"])
        bundle = self.bundle(version, program)
        moved = publish(self.clients, "prod", parse(version), bundle, now=NOW, **options)
        assert isinstance(moved, Moved)
        return moved

    def rollback(self, to: str) -> Moved:
        moved = rollback(self.clients, "prod", parse(to), now=NOW)
        assert isinstance(moved, Moved)
        return moved

    def keys(self) -> Path:
        for environment, key in release_key.public_keys(self.clients, ["prod"]).items():
            (self.directory / f"{environment}.pem").write_text(key)
        return self.directory

    def seen(self) -> pointer.Pointer:
        """What an instance reads, by its own code."""
        return pointer.read(self.content(channel.POINTER), "prod", self.keys())

    def content(self, key: str) -> bytes:
        return self.clients.s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()

    def objects(self) -> set[str]:
        return {item["Key"] for item in self.clients.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])}


@pytest.fixture
def prod(tmp_path: Path) -> Iterator[Channel]:
    with cloud.account() as clients:
        cloud.make_bucket(clients, "releases", "prod")
        clients.s3.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        signing_key.create(clients, release_key.of("prod"))
        yield Channel(clients, tmp_path)


def test_an_instance_reads_what_is_published_with_the_key_that_goes_into_its_image(prod: Channel) -> None:
    moved = prod.publish("v1.2.3", oldest_allowed="v1.2.0", expires_days=10)
    seen = prod.seen()
    assert (seen.version, seen.serial, seen.rollback, seen.architecture) == ("v1.2.3", 1, False, "aarch64")
    assert (seen.oldest_allowed, moved.expires) == ("v1.2.0", "2026-12-04T12:00:00Z")
    content = prod.content(pointer.bundle_name(seen.sha256))
    assert len(content) == seen.size
    assert channel.archive(prod.bundle("v1.2.3")) == content
    assert channel.LARGEST_BUNDLE == pointer.LARGEST_BUNDLE
    assert channel.POINTER == pointer.NAME


def test_each_publication_has_the_next_serial_and_a_rollback_too(prod: Channel) -> None:
    assert [prod.publish(version).serial for version in ("v1.2.3", "v1.2.4")] == [1, 2]
    back = prod.rollback("v1.2.3")
    assert (back.serial, back.rollback, back.before) == (3, True, "v1.2.4")
    assert (prod.seen().version, prod.seen().rollback) == ("v1.2.3", True)
    assert prod.seen().sha256 == json.loads(json.dumps(back.sha256))
    assert prod.publish("v1.2.5").serial == 4
    assert not prod.seen().rollback


def test_publishing_what_is_in_force_again_renews_its_expiry(prod: Channel) -> None:
    first, again = prod.publish("v1.2.3", expires_days=1), prod.publish("v1.2.3", expires_days=2)
    assert (again.serial, again.sha256) == (2, first.sha256)
    assert again.expires > first.expires


def test_a_version_never_changes_its_content(prod: Channel) -> None:
    prod.publish("v1.2.3")
    with raises("release-differs"):
        prod.publish("v1.2.3", "another program")
    assert prod.seen().serial == 1


@pytest.mark.incident("a migration with its own COMMIT left half of itself, and was said to be rolled back")
def test_a_migration_that_no_machine_could_apply_is_not_published(prod: Channel) -> None:
    bundle = prod.bundle("v1.2.3")
    (bundle / "migrations/20260102000000_two.sql").write_text("CREATE INDEX CONCURRENTLY a ON b (c);\n")
    with raises("migration-unfit", match=r"20260102000000_two\.sql, line 1: CREATE INDEX CONCURRENTLY can't run"):
        publish(prod.clients, "prod", parse("v1.2.3"), bundle, now=NOW)
    assert prod.objects() == set()


def test_an_older_version_needs_to_be_rolled_back_to(prod: Channel) -> None:
    prod.publish("v1.2.3")
    with raises("release-older") as error:
        prod.publish("v1.2.3-rc.9")
    assert "release.rollback --to v1.2.3-rc.9" in error.value.fix


def test_what_is_older_than_allowed_is_neither_published_nor_rolled_back_to(prod: Channel) -> None:
    prod.publish("v1.2.3")
    prod.publish("v1.2.4", oldest_allowed="v1.2.4")
    with raises("release-not-allowed"):
        prod.rollback("v1.2.3")
    with raises("release-not-allowed"):
        prod.publish("v1.2.5", oldest_allowed="v1.2.6")
    assert (prod.publish("v1.2.5").oldest_allowed, prod.seen().oldest_allowed) == ("v1.2.4", "v1.2.4")


def test_what_was_never_published_can_t_be_rolled_back_to(prod: Channel) -> None:
    prod.publish("v1.2.3")
    with raises("release-unknown"):
        prod.rollback("v1.2.2")


def test_who_can_only_write_to_the_bucket_chooses_no_release(prod: Channel) -> None:
    prod.publish("v1.2.3")
    prod.publish("v1.2.4")
    # The record of one version under another's name, and one that was changed.
    prod.clients.s3.put_object(Bucket=BUCKET, Key=channel.record("v1.2.2"), Body=prod.content(channel.record("v1.2.4")))
    with raises("release-unknown"):
        prod.rollback("v1.2.2")
    forged = json.loads(prod.content(channel.record("v1.2.4")))
    forged["payload"] = json.loads(prod.content(channel.record("v1.2.3")))["payload"]
    for key in (channel.record("v1.2.3"), channel.POINTER):
        prod.clients.s3.put_object(Bucket=BUCKET, Key=key, Body=json.dumps(forged).encode())
        with raises("channel-unreadable", match="is not what was published"):
            prod.rollback("v1.2.3")


@pytest.mark.parametrize("body", [b"", b"{}", b'{"payload": "e30=", "signature": "e30="}', b"[]"])
def test_a_pointer_that_nobody_signed_is_not_built_upon(prod: Channel, body: bytes) -> None:
    prod.clients.s3.put_object(Bucket=BUCKET, Key=channel.POINTER, Body=body)
    with raises("channel-unreadable"):
        prod.publish("v1.2.3")


def test_after_the_pointer_was_deleted_the_serial_goes_on(prod: Channel) -> None:
    for version in ("v1.2.3", "v1.2.4"):
        prod.publish(version)
    prod.clients.s3.delete_object(Bucket=BUCKET, Key=channel.POINTER)
    assert prod.publish("v1.2.5").serial == 3


@pytest.mark.parametrize("empty", [True, False])
def test_of_two_publishers_at_one_time_one_is_told_and_nothing_is_lost(prod: Channel, empty: bool) -> None:
    if not empty:
        prod.publish("v1.2.3")
    others: list[Moved] = []

    def meanwhile(_request: Mapping[str, Any]) -> None:
        if not others:
            others.append(Moved("", "", 0, "", "", "", False, ""))  # once, and not from within itself
            others.append(prod.publish("v1.2.9"))

    cloud.answer(prod.clients.kms, "Sign", meanwhile)
    with raises("channel-moved"):
        prod.publish("v1.2.4")
    assert (prod.seen().version, prod.seen().serial) == ("v1.2.9", others[1].serial)
    # What the one that lost has signed is no pointer, wherever somebody puts it: it has the winner's serial at most.
    lost = prod.content(channel.record("v1.2.4"))
    for name in ("v1.2.4", "v1.2.9"):
        with pytest.raises(HostError, match="serial is not a number from 1"):
            pointer.read(prod.content(channel.record(name)), "prod", prod.keys())
    whole = prod.content(channel.POINTER)
    prod.clients.s3.put_object(Bucket=BUCKET, Key=channel.POINTER, Body=lost)
    with raises("channel-unreadable"):
        prod.rollback("v1.2.9")
    prod.clients.s3.put_object(Bucket=BUCKET, Key=channel.POINTER, Body=whole)
    assert prod.publish("v1.2.10").serial == others[1].serial + 1
    assert prod.rollback("v1.2.4").version == "v1.2.4"


def test_what_an_image_takes_for_the_newest_serial_is_what_was_signed(prod: Channel) -> None:
    assert channel.newest_serial(prod.clients, "prod") == 0
    for version in ("v1.2.3", "v1.2.4"):
        prod.publish(version)
    assert channel.newest_serial(prod.clients, "prod") == 2
    prod.clients.s3.put_object(Bucket=BUCKET, Key=channel.POINTER, Body=b"{}")
    with raises("channel-unreadable"):
        channel.newest_serial(prod.clients, "prod")


def test_a_record_that_was_signed_as_a_pointer_before_can_still_be_gone_back_to(prod: Channel) -> None:
    prod.publish("v1.2.3")
    prod.clients.s3.put_object(Bucket=BUCKET, Key=channel.record("v1.2.3"), Body=prod.content(channel.POINTER))
    prod.publish("v1.2.4")
    assert prod.rollback("v1.2.3").serial == 3


def test_a_plan_changes_nothing(prod: Channel) -> None:
    plan = publish(prod.clients, "prod", parse("v1.2.3"), prod.bundle("v1.2.3"), dry=True)
    assert isinstance(plan, Plan)
    assert [step.action for step in plan.steps] == ["upload", "write", "point"]
    assert prod.objects() == set()
    prod.publish("v1.2.3")
    before = prod.objects()
    back = rollback(prod.clients, "prod", parse("v1.2.3"), dry=True)
    assert isinstance(back, Plan)
    assert [(step.action, step.reason) for step in back.steps] == [("roll back", "serial 1 names v1.2.3")]
    assert (prod.objects(), prod.seen().serial) == (before, 1)


def test_the_bundle_is_there_before_anything_names_it(prod: Channel) -> None:
    def refuse(request: Mapping[str, Any]) -> str | None:
        return "AccessDenied" if channel.POINTER in request["url_path"] else None

    cloud.answer(prod.clients.s3, "PutObject", refuse)
    with pytest.raises(Exception, match="may not do this"):
        prod.publish("v1.2.3")
    assert {key.partition("/")[0] for key in prod.objects()} == {"bundles", "releases"}


def test_a_test_image_is_never_published(prod: Channel) -> None:
    for attempt in (prod.publish, prod.rollback):
        with raises("test-image"):
            attempt("test-mine")
    assert prod.objects() == set()


@pytest.mark.parametrize("days", [0, -1, 4000])
def test_a_release_expires_after_a_sensible_time(prod: Channel, days: int) -> None:
    with raises("expiry-invalid"):
        prod.publish("v1.2.3", expires_days=days)


def test_an_environment_without_a_bucket_or_a_key_is_told_how_to_get_one(prod: Channel) -> None:
    with raises("bucket-unknown") as missing:
        publish(prod.clients, "other", parse("v1.2.3"), prod.bundle("v1.2.3"))
    assert "account.apply --environment other" in missing.value.fix
    cloud.make_bucket(prod.clients, "releases", "other")
    prod.clients.s3.delete_bucket(Bucket=bucket_name("releases", "other"))
    with raises("channel-missing") as gone:
        publish(prod.clients, "other", parse("v1.2.3"), prod.bundle("v1.2.3"))
    assert "account.apply --environment other" in gone.value.fix
    cloud.make_bucket(prod.clients, "releases", "other")
    with raises("signing-key-missing") as keyless:
        publish(prod.clients, "other", parse("v1.2.3"), prod.bundle("v1.2.3"))
    assert "account.apply --environment other" in keyless.value.fix
    with raises("environment-invalid"):
        check_environment("../prod")


def test_only_the_environments_that_have_a_key_are_followed(prod: Channel, tmp_path: Path) -> None:
    keys = release_key.public_keys(prod.clients, ["prod", "verify"])
    assert set(keys) == {"prod"}
    directory = Path(release_key.write(tmp_path, parse("v1.2.3"), keys, {"prod": 7}))
    assert {path.name for path in directory.iterdir()} == {"prod.pem", "prod.serial"}
    assert pointer.floor("prod", directory) == 7
    assert pointer.floor("verify", directory) == 0
    # What an earlier build left is no key of this one.
    assert release_key.write(tmp_path, parse("v1.2.3"), {}, {}) == ""
    assert not directory.exists()


def test_a_program_for_other_processors_than_what_ships_is_released_nowhere(prod: Channel) -> None:
    prod.architecture = "x86_64"
    with raises("programs-not-shipped") as caught:
        prod.publish("v1.2.3")
    assert (caught.value.expected, caught.value.found) == ("aarch64", "x86_64")


def test_a_key_of_another_kind_is_refused(prod: Channel) -> None:
    made = prod.clients.kms.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
    prod.clients.kms.create_alias(AliasName="alias/zmanim-release-verify", TargetKeyId=made["KeyMetadata"]["KeyId"])
    with raises("signing-key-unfit"):
        release_key.public_keys(prod.clients, ["verify"])


def test_a_bundle_that_no_instance_takes_is_not_published(prod: Channel) -> None:
    bundle = prod.bundle("v1.2.3")
    with raises("bundle-too-large"):
        channel.archive(bundle, largest=100)
    assert len(channel.archive(bundle)) < channel.LARGEST_BUNDLE
    assert releases.EXPIRES_DAYS == 90
