"""Whoever sets a setting may do what it promises: for each, what it has AWS asked for is allowed to the role that asks.

The converse is tests/machines/release/test_policies.py: every action of every policy is needed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields

import pytest

from tests.unit.infrastructure.iam.test_statements import ACCOUNT, REGION, RUN, allowed
from zmanim_ami.pipeline.settings import Settings

THERE = "eu-central-1"
OURS = {"ec2:resourcetag/zmanim:run": ("7",)}
VERIFY = {"aws:requesttag/zmanim:environment": ("verify",)}
# The file of the policy, the action, the kind of resource (EC2's) or the ARN, the context.
Ask = tuple[str, str, str, Mapping[str, tuple[str, ...]]]


def arn(kind: str, region: str = REGION) -> str:
    owner = "" if kind in {"image", "snapshot"} else ACCOUNT
    return f"arn:aws:ec2:{region}:{owner}:{kind}/{kind}-1"


def launch(kind: str, context: Mapping[str, tuple[str, ...]] = RUN) -> Ask:
    return ("build.json", "ec2:RunInstances", arn(kind), context)


def encrypt(file: str, region: str = REGION) -> Iterator[Ask]:
    for action in ("CreateGrant", "Decrypt", "DescribeKey", "GenerateDataKeyWithoutPlaintext", "ReEncryptFrom"):
        key = f"arn:aws:kms:{region}:{ACCOUNT}:key/1"
        yield (file, f"kms:{action}", key, {"kms:viaservice": (f"ec2.{region}.amazonaws.com",)})


def on_images(action: str, context: Mapping[str, tuple[str, ...]] = OURS) -> list[Ask]:
    return [("build.json", f"ec2:{action}", arn("image", region), context) for region in (REGION, THERE)]


def parameter(file: str, action: str, name: str) -> Ask:
    return (file, f"ssm:{action}", f"arn:aws:ssm:{REGION}:{ACCOUNT}:parameter/zmanim/prod/{name}", {})


RELEASE_KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/1"
POINTER = "arn:aws:s3:::zmanim-releases-prod/channel.json"
COPY = {**RUN, "ec2:createaction": ("CopyImage",)}
ASKS: Mapping[str, list[Ask]] = {
    "instance_type": [launch("instance")],
    "verify_instance_type": [("verify.json", "ec2:RunInstances", arn("instance"), VERIFY)],
    "source_ami_id": [launch("image", {})],
    "subnet_id": [
        launch("subnet", {}),
        launch("network-interface", {}),
        ("build.json", "ec2:DescribeSubnets", "*", {}),
        ("build.json", "ec2:CreateSecurityGroup", arn("vpc"), {}),
        ("verify.json", "ec2:RunInstances", arn("subnet"), {}),
    ],
    "ssh_source": [("build.json", "ec2:AuthorizeSecurityGroupIngress", arn("security-group"), OURS)],
    "kms_key_id": [*encrypt("build.json"), *encrypt("build.json", THERE), *encrypt("verify.json")],
    "root_encrypted": [*encrypt("build.json"), *encrypt("build.json", THERE), *encrypt("verify.json")],
    "root_volume_gib": [launch("volume")],
    "ami_users": on_images("ModifyImageAttribute"),
    "ami_regions": [
        ("build.json", "ec2:DescribeRegions", "*", {}),
        ("build.json", "ec2:DescribeImages", "*", {}),
        ("build.json", "ec2:CopyImage", arn("image"), OURS),
        *(("build.json", "ec2:CopyImage", arn(kind, THERE), RUN) for kind in ("image", "snapshot")),
        *(("build.json", "ec2:CreateTags", arn(kind, THERE), COPY) for kind in ("image", "snapshot")),
        *on_images("ModifyImageAttribute"),
        *on_images("DeregisterImage"),
        ("build.json", "ec2:DeleteSnapshot", arn("snapshot", THERE), OURS),
    ],
    "deprecate_days": on_images("EnableImageDeprecation"),
    "release_environments": [
        ("build.json", "kms:GetPublicKey", RELEASE_KEY, {"kms:requestalias": ("alias/zmanim-release-prod",)}),
        ("build.json", "s3:GetObject", POINTER, {"aws:resourceaccount": (ACCOUNT,)}),
    ],
    "releases_bucket": [
        parameter("build.json", "GetParameter", "releases-bucket"),
        ("build.json", "s3:GetObject", POINTER, {"aws:resourceaccount": (ACCOUNT,)}),
    ],
    "data_volume_gib": [("verify.json", "ec2:RunInstances", arn("volume"), {})],
    "parameter_prefix": [
        parameter("build.json", "GetParameterHistory", "ami-id"),
        parameter("verify.json", "GetParameter", "ami-id"),
        *(parameter("publish.json", "GetParameter", name) for name in ("ami-id", "ami-version")),
        *(parameter("publish.json", "PutParameter", name) for name in ("ami-id", "ami-version")),
    ],
    "run": [("build.json", "ec2:CreateTags", arn("instance"), {**RUN, "ec2:createaction": ("RunInstances",)})],
}  # fmt: skip
# What these say, no role of a release asks AWS for.
ASK_NOTHING = {
    "region",
    "advisories_url",
    "api_dir",
    "versions_file",
    "postgresql_repo",
    "github_subject",
    "boot_timeout",
    "ready_seconds",
    "command_timeout",
    "backup_timeout",
}
# Those of image.retire choose among images. For the rest whoever runs account.apply is asked, and what an instance does
# with them is tried in test_statements.py.
ASK_NOTHING |= {"retire_keep", "retire_days", "retire_step_days", "retire_publications", "retire_limit"}
ASK_NOTHING |= {"account_wide", "backups_bucket", "mail_from", "mail_to", "alarms_topic", "alarm_prefix"}


def test_of_every_setting_it_is_known_what_it_asks_of_aws() -> None:
    assert {each.name for each in fields(Settings)} == ASKS.keys() | ASK_NOTHING


@pytest.mark.parametrize("setting", ASKS)
def test_what_a_setting_asks_of_aws_its_role_may_do(setting: str) -> None:
    refused = [ask[1:3] for ask in ASKS[setting] if not allowed(*ask)]
    assert refused == []


def test_in_a_region_of_copies_nothing_is_touched_that_is_not_ours() -> None:
    for action in ("CopyImage", "DeregisterImage", "ModifyImageAttribute", "EnableImageDeprecation", "CreateTags"):
        assert not allowed("build.json", f"ec2:{action}", arn("image", THERE), {})
    for action in ("DeleteSnapshot", "CreateTags", "CopyImage"):
        assert not allowed("build.json", f"ec2:{action}", arn("snapshot", THERE), {})
    assert not allowed("build.json", "ec2:CopyImage", arn("image", "us-east-1"), RUN)
    assert not allowed("build.json", "ec2:RunInstances", arn("instance", THERE), RUN)
