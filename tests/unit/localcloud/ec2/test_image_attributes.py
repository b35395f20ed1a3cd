"""What AWS refuses to an image's owner: sharing, deprecation, copies to another region."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud.iam import IamLab, refused
from tests.unit.localcloud.ec2.account import made_image

ELSEWHERE = "eu-central-1"
SHARED = {"LaunchPermission": {"Add": [{"UserId": "111122223333"}]}}


def elsewhere(lab: IamLab, service: str = "ec2") -> Any:
    return lab.client(service, region=ELSEWHERE)


def shown(ec2: Any, image: str) -> dict[str, Any]:
    result: dict[str, Any] = ec2.describe_images(ImageIds=[image])["Images"][0]
    return result


def copy(lab: IamLab, image: str, **given: Any) -> str:
    source = {"SourceImageId": image, "SourceRegion": "eu-west-1", "Name": "copied"}
    return str(elsewhere(lab).copy_image(**source | given)["ImageId"])


def key(lab: IamLab, region: str, alias: str = "") -> str:
    kms = lab.client("kms", region=region)
    made = str(kms.create_key()["KeyMetadata"]["KeyId"])
    if alias:
        kms.create_alias(AliasName=alias, TargetKeyId=made)
    return made


def test_an_image_that_aws_s_own_key_encrypts_is_not_shared(lab: IamLab, image: str) -> None:
    ec2 = lab.client("ec2")
    for root in ({"Encrypted": True}, {"Encrypted": True, "KmsKeyId": "alias/aws/ebs"}):
        own = made_image(ec2, f"encrypted-{len(root)}", **root)
        with pytest.raises(ClientError, match="Snapshots encrypted with the AWS Managed CMK can't be shared") as error:
            ec2.modify_image_attribute(ImageId=own, **SHARED)
        assert error.value.response["Error"]["Code"] == "InvalidParameter"
        assert refused(ec2.modify_image_attribute, ImageId=own, OperationType="add", UserIds=["111122223333"],
                       Attribute="launchPermission") == "InvalidParameter"  # fmt: skip
        snapshot = shown(ec2, own)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
        volume = {"SnapshotId": snapshot, "Attribute": "createVolumePermission", "OperationType": "add"}
        assert refused(ec2.modify_snapshot_attribute, **volume, UserIds=["1" * 12]) == "OperationNotPermitted"
    ec2.modify_image_attribute(ImageId=image, **SHARED)


def test_an_image_that_a_key_of_the_account_s_own_encrypts_is_shared(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    for name, given in (("by-id", key(lab, "eu-west-1")), ("by-alias", "alias/mine")):
        if name == "by-alias":
            key(lab, "eu-west-1", given)
        own = made_image(ec2, name, Encrypted=True, KmsKeyId=given)
        ec2.modify_image_attribute(ImageId=own, **SHARED)
        permissions = ec2.describe_image_attribute(ImageId=own, Attribute="launchPermission")["LaunchPermissions"]
        assert permissions == [{"UserId": "111122223333"}]


def test_an_image_is_deprecated_neither_in_the_past_nor_in_more_than_ten_years(lab: IamLab, image: str) -> None:
    ec2, now = lab.client("ec2"), datetime.now(UTC)
    for wrong in (now - timedelta(minutes=2), now + timedelta(days=3660)):
        assert refused(ec2.enable_image_deprecation, ImageId=image, DeprecateAt=wrong) == "InvalidParameterValue"
    assert "DeprecationTime" not in shown(ec2, image)
    ec2.enable_image_deprecation(ImageId=image, DeprecateAt=now + timedelta(days=3650))
    assert shown(ec2, image)["DeprecationTime"].startswith(f"{now + timedelta(days=3650):%Y-%m-%dT}")


def test_a_copy_is_an_image_of_its_own_region_with_the_tags_of_its_own_call(lab: IamLab, image: str) -> None:
    lab.client("ec2").create_tags(Resources=[image], Tags=[{"Key": "here", "Value": "1"}])
    tags = [{"ResourceType": kind, "Tags": [{"Key": "kind", "Value": kind}]} for kind in ("image", "snapshot")]
    made = copy(lab, image, TagSpecifications=tags)
    there = shown(elsewhere(lab), made)
    assert (there["Name"], there["State"], there["SourceImageId"]) == ("copied", "available", image)
    assert there["Tags"] == [{"Key": "kind", "Value": "image"}]
    snapshot = there["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    (described,) = elsewhere(lab).describe_snapshots(SnapshotIds=[snapshot])["Snapshots"]
    assert described["Tags"] == [{"Key": "kind", "Value": "snapshot"}]
    here = lab.client("ec2")
    assert refused(here.describe_images, ImageIds=[made]) == "InvalidAMIID.NotFound"
    assert refused(here.describe_snapshots, SnapshotIds=[snapshot]) == "InvalidSnapshot.NotFound"
    assert refused(copy, lab, image) == "InvalidAMIName.Duplicate"


def test_a_copy_in_another_region_is_encrypted_by_a_key_of_that_region(lab: IamLab) -> None:
    key(lab, "eu-west-1", "alias/mine")
    source = made_image(lab.client("ec2"), "encrypted", Encrypted=True, KmsKeyId="alias/mine")
    assert refused(copy, lab, source, Encrypted=False) == "InvalidRequest"
    unnamed = copy(lab, source, Name="unnamed")
    assert refused(elsewhere(lab).modify_image_attribute, ImageId=unnamed, **SHARED) == "InvalidParameter"
    missing = shown(elsewhere(lab), copy(lab, source, Name="missing", Encrypted=True, KmsKeyId="alias/mine"))
    assert (missing["State"], missing["StateReason"]["Code"]) == ("failed", "Client.InvalidKmsKey")
    key(lab, ELSEWHERE, "alias/mine")
    named = copy(lab, source, Name="named", Encrypted=True, KmsKeyId="alias/mine")
    elsewhere(lab).modify_image_attribute(ImageId=named, **SHARED)


def test_parameters_are_a_region_s_own(lab: IamLab) -> None:
    lab.client("ssm").put_parameter(Name="/x", Value="here", Type="String")
    assert refused(elsewhere(lab, "ssm").get_parameter, Name="/x") == "ParameterNotFound"
