"""The role that publishes the API's releases in one environment: what it needs, and what it can't do."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from localcloud.iam.policy import Statement, read
from localcloud.settings import ACCOUNT
from tests.support import ROOT, bucket_name
from tests.support.localcloud.iam import REGION, IamLab, iam_lab, refused
from tests.support.replay import read_record, unneeded
from zmanim_ami.pipeline.account import changes, requirements, roles
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.channel import releases
from zmanim_ami.pipeline.channel.bucket import POINTER
from zmanim_ami.pipeline.version import parse

POLICIES = ROOT / "infrastructure" / "iam"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ROLE = roles.release_name("prod")
DOCUMENT = roles.read(
    POLICIES / "release.json",
    [{"environment": "prod", "account": ACCOUNT, "region": REGION, "releases_bucket": bucket_name("releases")}],
)
BUCKET = bucket_name("releases")


def clients(lab: IamLab, credentials: Mapping[str, str] | None = None) -> Clients:
    """Return clients of somebody; without `credentials` of the account's owner."""
    services = [field.name for field in fields(Clients) if field.name not in {"region", "written"}]
    made = {name: lab.client(name, credentials) for name in services}
    return cast(Clients, SimpleNamespace(**made, region=REGION))


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[IamLab]:
    with iam_lab(tmp_path_factory.mktemp("iam")) as made:
        for environment in ("prod", "verify"):
            owner = clients(made)
            changes.apply(requirements.plan(owner, environment, policies=POLICIES))
        yield made


@pytest.fixture(scope="module")
def released(lab: IamLab, tmp_path_factory: pytest.TempPathFactory) -> IamLab:
    """The account after the role has published, rolled back, and published over a pointer that was deleted."""
    mine = clients(lab, lab.session(ROLE))
    for version in ("v1.0.0", "v1.1.0"):
        releases.publish(mine, "prod", parse(version), _bundle(tmp_path_factory, version), now=NOW)
    releases.rollback(mine, "prod", parse("v1.0.0"), now=NOW)
    clients(lab).s3.delete_object(Bucket=BUCKET, Key=POINTER)
    moved = releases.publish(mine, "prod", parse("v1.2.0"), _bundle(tmp_path_factory, "v1.2.0"), now=NOW)
    assert isinstance(moved, releases.Moved)
    assert moved.serial == 4
    return lab


def _bundle(factory: pytest.TempPathFactory, version: str) -> Path:
    directory = factory.mktemp(version)
    (directory / "migrations").mkdir()
    (directory / "zmanim-api").write_text(version)
    manifest = {"version": version, "commit": "c0ffee", "architecture": "aarch64"}
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return directory


def statements() -> tuple[Statement, ...]:
    return read(DOCUMENT, "release")


def test_every_action_of_the_release_role_is_needed_for_a_release(released: IamLab) -> None:
    record = read_record(released.directory / "authorization.jsonl")
    assert unneeded({ROLE: statements()}, record) == []


def test_a_release_is_refused_nothing_and_no_condition_is_left_open(released: IamLab) -> None:
    decisions = [raw for raw in released.decisions() if raw["role"] == ROLE]
    assert {raw["action"] for raw in decisions} == {action for each in statements() for action in each.actions}
    assert [raw for raw in decisions if not raw["decision"]["allowed"] or raw["decision"]["undecided"]] == []


def test_the_release_role_destroys_nothing_and_reaches_no_other_environment(released: IamLab) -> None:
    mine = clients(released, released.session(ROLE))
    owner = clients(released)
    (version, *_) = owner.s3.list_object_versions(Bucket=BUCKET, Prefix=POINTER)["Versions"]
    gone = {"Bucket": BUCKET, "Key": POINTER}
    assert refused(mine.s3.delete_object, **gone) == "AccessDenied"
    assert refused(mine.s3.delete_object, **gone, VersionId=version["VersionId"]) == "AccessDenied"
    for bucket in (bucket_name("releases", "verify"), bucket_name("backups")):
        assert refused(mine.s3.put_object, Bucket=bucket, Key=POINTER, Body=b"") == "AccessDenied"
        assert refused(mine.s3.get_object, Bucket=bucket, Key=POINTER) == "AccessDenied"
        assert refused(mine.s3.list_objects_v2, Bucket=bucket) == "AccessDenied"
    message = {"Message": b"x", "SigningAlgorithm": "ECDSA_SHA_256"}
    assert refused(mine.kms.sign, KeyId="alias/zmanim-release-verify", **message) == "AccessDeniedException"
    assert refused(mine.kms.schedule_key_deletion, KeyId=_key(owner)) == "AccessDeniedException"
    assert refused(mine.ssm.get_parameter, Name="/zmanim/prod/jwt-secret") == "AccessDeniedException"
    put = {"Name": "/zmanim/prod/ami-id", "Value": "x", "Type": "String"}
    assert refused(mine.ssm.put_parameter, **put) == "AccessDeniedException"
    assert refused(mine.ec2.describe_images) == "UnauthorizedOperation"


def test_nobody_is_the_release_role_but_whom_the_account_lets(lab: IamLab) -> None:
    arn = f"arn:aws:iam::{ACCOUNT}:role/{ROLE}"
    request = {"RoleArn": arn, "RoleSessionName": "a-session"}
    let = {"Sid": "Publish", "Effect": "Allow", "Action": "sts:AssumeRole", "Resource": arn}
    publisher = lab.client("sts", lab.role("publisher", let))
    assert publisher.assume_role(**request)["AssumedRoleUser"]["Arn"].endswith(f"{ROLE}/a-session")
    other = {**request, "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/{roles.release_name('verify')}"}
    assert refused(publisher.assume_role, **other) == "AccessDenied"
    instance = lab.client("sts", lab.session_of_instance(roles.name("prod")))
    assert refused(instance.assume_role, **request) == "AccessDenied"


def _key(owner: Clients) -> str:
    return owner.kms.describe_key(KeyId="alias/zmanim-release-prod")["KeyMetadata"]["KeyId"]
