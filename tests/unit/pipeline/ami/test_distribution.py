"""Copies and sharing, against the local cloud's own EC2: what AWS refuses, it refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.settings import ACCOUNT
from tests.support import ROOT
from tests.support import pipeline_cloud as cloud
from tests.support.errors import raises
from tests.support.localcloud.iam import REGION, IamLab
from tests.unit.localcloud.ec2.account import clients, ec2_lab, made_image
from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.ami import distribution, image, sweep
from zmanim_ami.pipeline.ami.provenance import Provenance
from zmanim_ami.pipeline.ami.sweep import Scope
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse

VERSION = parse("v1.2.3")
MADE = Provenance(cloud.COMMIT, cloud.TREE, "packer 1.15.0")
REGIONS = ("eu-central-1", "eu-north-1")
USERS = ("111122223333",)
KEY = "alias/images"
LATER = "2027-11-29T00:00:00Z"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with ec2_lab(tmp_path) as made:
        yield made


@pytest.fixture
def home(lab: IamLab) -> Clients:
    return clients(lab)


def own_key(lab: IamLab, *regions: str) -> None:
    for region in regions:
        kms = lab.client("kms", region=region)
        kms.create_alias(AliasName=KEY, TargetKeyId=kms.create_key()["KeyMetadata"]["KeyId"])


def built(home: Clients, **root: Any) -> image.Image:
    """Make an image as Packer leaves one."""
    made = made_image(home.ec2, VERSION.image_name, **root)
    tags = {**MADE.tags(VERSION), "zmanim:run": "6", "Name": VERSION.image_name}
    home.ec2.create_tags(Resources=[made], Tags=[{"Key": key, "Value": value} for key, value in tags.items()])
    return image.of_id(home, made)


def copies(lab: IamLab, settings: Settings) -> distribution.Copies:
    elsewhere = tuple(clients(lab, region) for region in distribution.regions(settings))
    return distribution.Copies(elsewhere, settings, VERSION, MADE, LATER)


def shown(clients: Clients, ami_id: str) -> Any:
    return clients.ec2.describe_images(ImageIds=[ami_id])["Images"][0]


def users(clients: Clients, ami_id: str) -> list[str]:
    permissions = clients.ec2.describe_image_attribute(ImageId=ami_id, Attribute="launchPermission")
    return [each["UserId"] for each in permissions["LaunchPermissions"]]


def test_every_region_gets_a_copy_that_is_tagged_encrypted_shared_and_deprecated_like_the_image(
    lab: IamLab, home: Clients
) -> None:
    own_key(lab, REGION, *REGIONS)
    ami = built(home, Encrypted=True, KmsKeyId=KEY)
    settings = Settings(ami_regions=(*REGIONS, REGION), ami_users=USERS, kms_key_id=KEY, run="7")
    made = distribution.copy(home, copies(lab, settings), ami, cloud.hurried())
    assert set(made) == set(REGIONS)
    for region, ami_id in made.items():
        there = clients(lab, region)
        copied = shown(there, ami_id)
        assert (copied["Name"], copied["State"], copied["ImdsSupport"]) == (ami.name, "available", "v2.0")
        assert copied["DeprecationTime"].startswith("2027-11-29T00:00")
        ebs = copied["BlockDeviceMappings"][0]["Ebs"]
        assert (ebs["Encrypted"], ebs["KmsKeyId"]) == (True, KEY)
        tags = {**ami.tags, "zmanim:run": "7", "zmanim:copy-of": ami.ami_id}
        assert {tag["Key"]: tag["Value"] for tag in copied["Tags"]} == tags
        (snapshot,) = there.ec2.describe_snapshots(SnapshotIds=[ebs["SnapshotId"]])["Snapshots"]
        assert {tag["Key"]: tag["Value"] for tag in snapshot["Tags"]} == tags
        assert users(there, ami_id) == list(USERS)


def test_a_copy_that_is_there_is_kept_and_one_of_another_tree_goes(lab: IamLab, home: Clients) -> None:
    settings = Settings(ami_regions=REGIONS, root_encrypted=False)
    ami = built(home)
    first = distribution.copy(home, copies(lab, settings), ami, cloud.hurried())
    assert distribution.copy(home, copies(lab, settings), ami, cloud.hurried()) == first
    there = clients(lab, REGIONS[0])
    other = [{"Key": "zmanim:commit", "Value": "0" * 40}]
    there.ec2.create_tags(Resources=[first[REGIONS[0]]], Tags=other)  # type: ignore[arg-type]
    with raises("image-exists"):
        distribution.check_free(copies(lab, settings), replace=False)
    distribution.check_free(copies(lab, settings), replace=True)
    again = distribution.copy(home, copies(lab, settings), ami, cloud.hurried())
    assert again[REGIONS[0]] != first[REGIONS[0]]
    assert again[REGIONS[1]] == first[REGIONS[1]]
    assert [each["ImageId"] for each in there.ec2.describe_images(Owners=["self"])["Images"]] == [again[REGIONS[0]]]


def test_a_region_without_the_key_fails_by_name_and_is_gone_on_with_once_it_has_one(lab: IamLab, home: Clients) -> None:
    own_key(lab, REGION, REGIONS[0])
    ami = built(home, Encrypted=True, KmsKeyId=KEY)
    settings = Settings(ami_regions=REGIONS, kms_key_id=KEY)
    with raises("copy-failed") as error:
        distribution.copy(home, copies(lab, settings), ami, cloud.hurried())
    assert REGIONS[1] in error.value.summary
    assert "kms_key_id" in error.value.fix
    own_key(lab, REGIONS[1])
    made = distribution.copy(home, copies(lab, settings), ami, cloud.hurried())
    assert shown(clients(lab, REGIONS[1]), made[REGIONS[1]])["State"] == "available"


@pytest.mark.parametrize("key", ["", "alias/aws/ebs", "arn:aws:kms:eu-west-1:123456789012:alias/aws/ebs"])
def test_sharing_what_aws_s_own_key_encrypts_is_refused_with_the_way_out(key: str) -> None:
    with raises("image-not-shareable") as error:
        distribution.check(Settings(ami_users=USERS, kms_key_id=key))
    assert "kms_key_id = alias/NAME" in error.value.fix
    distribution.check(Settings(ami_users=USERS, root_encrypted=False))
    distribution.check(Settings(ami_users=USERS, kms_key_id=KEY))


@pytest.mark.parametrize(
    ("key", "good"),
    [
        ("12345678-1234-1234-1234-123456789012", False),
        ("arn:aws:kms:eu-west-1:123456789012:key/12345678-1234-1234-1234-123456789012", False),
        ("mrk-12345678123412341234123456789012", True),
        ("arn:aws:kms:eu-west-1:123456789012:key/mrk-12345678123412341234123456789012", True),
        ("alias/images", True),
        ("arn:aws:kms:eu-west-1:123456789012:alias/images", True),
        ("", True),
    ],
)
def test_a_key_of_one_region_is_refused_for_copies_in_others(key: str, good: bool) -> None:
    settings = Settings(ami_regions=REGIONS, kms_key_id=key)
    if good:
        distribution.check(settings)
    else:
        with raises("key-of-one-region"):
            distribution.check(settings)
        distribution.check(Settings(ami_regions=("eu-west-1",), kms_key_id=key))


def test_the_build_role_may_do_all_of_it_and_in_no_other_region(lab: IamLab, home: Clients) -> None:
    own_key(lab, REGION, *REGIONS, "us-east-1")
    ami = built(home, Encrypted=True, KmsKeyId=KEY)
    buckets = {"every_releases_bucket": "b-*", "releases_bucket": "b-verify"}
    values = {"account": ACCOUNT, "region": REGION, "parameters": "/zmanim/prod", **buckets}
    policy: Any = roles.read(ROOT / "infrastructure/iam/build.json", [values], REGIONS)
    role = lab.role("zmanim-build", *policy["Statement"])
    here = clients(lab, REGION, role)
    # What Packer does to the image itself, then what is done for the copies.
    here.ec2.modify_image_attribute(ImageId=ami.ami_id, LaunchPermission={"Add": [{"UserId": USERS[0]}]})
    here.ec2.enable_image_deprecation(ImageId=ami.ami_id, DeprecateAt=LATER)
    settings = Settings(ami_regions=REGIONS, ami_users=USERS, kms_key_id=KEY, run="7")
    elsewhere = tuple(clients(lab, region, role) for region in REGIONS)
    promised = distribution.Copies(elsewhere, settings, VERSION, MADE, LATER)
    made = distribution.copy(here, promised, ami, cloud.hurried())
    stale = [{"Key": "zmanim:commit", "Value": "0" * 40}]
    elsewhere[0].ec2.create_tags(Resources=[made[REGIONS[0]]], Tags=stale)  # type: ignore[arg-type]
    assert distribution.copy(here, promised, ami, cloud.hurried())[REGIONS[0]] != made[REGIONS[0]]
    leftovers = sweep.plan(here, Scope("7"), elsewhere)
    sweep.apply(here, leftovers, cloud.hurried())
    assert {each.kind for each in leftovers} == {"image", "snapshot"}
    assert sweep.plan(here, Scope("7"), elsewhere) == []
    beyond = distribution.Copies((clients(lab, "us-east-1", role),), settings, VERSION, MADE, LATER)
    with raises("not-allowed"):
        distribution.copy(here, beyond, ami, cloud.hurried())


def test_a_sweep_takes_the_copies_of_what_was_not_verified(lab: IamLab, home: Clients) -> None:
    ami = built(home)
    settings = Settings(ami_regions=REGIONS, root_encrypted=False, run="7")
    made = distribution.copy(home, copies(lab, settings), ami, cloud.hurried())
    home.ec2.create_tags(Resources=[ami.ami_id], Tags=[{"Key": image.VERIFIED_TAG, "Value": cloud.SHA}])
    elsewhere = copies(lab, settings).elsewhere
    assert sweep.plan(home, Scope("7"), elsewhere) == []
    home.ec2.delete_tags(Resources=[ami.ami_id], Tags=[{"Key": image.VERIFIED_TAG}])
    leftovers = sweep.plan(home, Scope("7"), elsewhere)
    assert {each.id for each in leftovers if each.kind == "image"} == set(made.values())
    sweep.apply(home, leftovers, cloud.hurried())
    assert sweep.plan(home, Scope("7"), elsewhere) == []
    assert image.of_id(home, ami.ami_id).state == "available"
