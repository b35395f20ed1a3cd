"""What an image's owner does with it, and who uses it."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.core.utils import utcnow

from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base

OTHER = "111122223333"


def permissions(ec2: Any, image: str) -> list[dict[str, str]]:
    found = ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"]
    return sorted(found, key=json.dumps)


def launch(ec2: Any, image: str) -> str:
    made = ec2.run_instances(ImageId=image, InstanceType="t4g.small", MinCount=1, MaxCount=1)
    return str(made["Instances"][0]["InstanceId"])


def test_one_call_makes_every_change_that_it_names_or_none(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    both: Any = {"Description": {"Value": "new"}, "LaunchPermission": {"Add": [{"UserId": OTHER}]}}
    wrong = {"LaunchPermission": {"Add": [{"UserId": "1"}]}}
    assert refused(ec2.modify_image_attribute, ImageId=image, **both | wrong) == "InvalidAMIAttributeItemValue"
    assert ec2.describe_images(ImageIds=[image])["Images"][0].get("Description", "") == ""
    ec2.modify_image_attribute(ImageId=image, ImdsSupport={"Value": "v2.0"}, **both)
    (found,) = ec2.describe_images(ImageIds=[image])["Images"]
    assert (found["Description"], found["ImdsSupport"], permissions(ec2, image)) == ("new", "v2.0", [{"UserId": OTHER}])
    assert refused(ec2.modify_image_attribute, ImageId=image) == "InvalidParameterCombination"
    assert refused(ec2.modify_image_attribute, ImageId=image, Attribute="kernel", Value="x") == "InvalidParameterValue"
    ec2.modify_image_attribute(ImageId=image, Attribute="description", Value="short")
    assert ec2.describe_image_attribute(ImageId=image, Attribute="description")["Description"] == {"Value": "short"}


def test_launch_permissions_are_reset_and_nothing_else_is(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    given: Any = {"ImageId": image, "Attribute": "launchPermission", "OperationType": "add"}
    ec2.modify_image_attribute(UserIds=[OTHER, "444455556666"], **given)
    assert permissions(ec2, image) == [{"UserId": OTHER}, {"UserId": "444455556666"}]
    ec2.reset_image_attribute(ImageId=image, Attribute="launchPermission")
    assert permissions(ec2, image) == []
    assert refused(ec2.reset_image_attribute, ImageId=image, Attribute="description") == "InvalidParameterValue"
    assert refused(ec2.reset_image_attribute, ImageId=base(ec2), Attribute="launchPermission") == "AuthFailure"


def test_protection_with_its_cool_down_outlasts_being_disabled_by_a_day(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")

    def protection() -> str:
        return str(ec2.describe_images(ImageIds=[image])["Images"][0]["DeregistrationProtection"])

    assert protection() == "disabled"
    ec2.enable_image_deregistration_protection(ImageId=image, WithCooldown=True)
    assert protection() == "enabled-with-cooldown"
    assert refused(ec2.deregister_image, ImageId=image) == "OperationNotPermitted"
    ec2.disable_image_deregistration_protection(ImageId=image)
    assert protection() == "disabled"
    ec2.disable_image_deregistration_protection(ImageId=image)
    assert refused(ec2.deregister_image, ImageId=image) == "OperationNotPermitted"
    remaining = lab.image(image).protected_until - utcnow()
    assert timedelta(hours=23, minutes=59) < remaining <= timedelta(hours=24)
    lab.image(image).protected_until -= timedelta(hours=24)
    ec2.enable_image_deregistration_protection(ImageId=image)
    assert protection() == "enabled-without-cooldown"
    ec2.disable_image_deregistration_protection(ImageId=image)
    ec2.deregister_image(ImageId=image)


def test_an_image_tells_when_it_was_launched_last(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")

    def last() -> dict[str, str]:
        found = ec2.describe_image_attribute(ImageId=image, Attribute="lastLaunchedTime")
        return dict(found.get("LastLaunchedTime") or {})

    assert last() == {}
    assert "LastLaunchedTime" not in ec2.describe_images(ImageIds=[image])["Images"][0]
    launch(ec2, image)
    assert last()["Value"].startswith(f"{utcnow():%Y-%m-%dT}")
    assert ec2.describe_images(ImageIds=[image])["Images"][0]["LastLaunchedTime"] == last()["Value"]


def test_references_of_an_image_are_named_by_kind(lab: Ec2Lab, image: str) -> None:
    ec2, ssm = lab.client("ec2"), lab.client("ssm")
    instance = launch(ec2, image)
    template = ec2.create_launch_template(LaunchTemplateName="t", LaunchTemplateData={"ImageId": image})
    identifier = template["LaunchTemplate"]["LaunchTemplateId"]
    ssm.put_parameter(Name="/zmanim/prod/ami-id", Value=image, Type="String", DataType="aws:ec2:image")
    ssm.put_parameter(Name="/elsewhere", Value=image, Type="String")
    template_arn = f"launch-template/{identifier}"
    arn = "arn:aws:{}:eu-west-1:123456789012:{}"
    every = [
        {"ImageId": image, "ResourceType": "ec2:Instance", "Arn": arn.format("ec2", f"instance/{instance}")},
        {"ImageId": image, "ResourceType": "ec2:LaunchTemplate", "Arn": arn.format("ec2", template_arn)},
        {"ImageId": image, "ResourceType": "ssm:Parameter", "Arn": arn.format("ssm", "parameter/zmanim/prod/ami-id")},
    ]  # fmt: skip
    found = ec2.describe_image_references(ImageIds=[image], IncludeAllResourceTypes=True)["ImageReferences"]
    assert found == every
    stopped: Any = {"ResourceType": "ec2:Instance", "ResourceTypeOptions": [{"OptionName": "state-name", "OptionValues": ["stopped"]}]}  # fmt: skip # noqa: E501
    assert ec2.describe_image_references(ImageIds=[image], ResourceTypes=[stopped])["ImageReferences"] == []
    ec2.create_launch_template_version(LaunchTemplateId=identifier, LaunchTemplateData={"ImageId": base(ec2)})
    newest: Any = {"ResourceType": "ec2:LaunchTemplate", "ResourceTypeOptions": [{"OptionName": "version-depth", "OptionValues": ["1"]}]}  # fmt: skip # noqa: E501
    assert ec2.describe_image_references(ImageIds=[image], ResourceTypes=[newest])["ImageReferences"] == []
    assert refused(ec2.describe_image_references, ImageIds=[image]) == "MissingParameter"
    wrong: Any = {"ImageIds": [image], "ResourceTypes": [{"ResourceType": "ec2:Nothing"}]}
    assert refused(ec2.describe_image_references, **wrong) == "InvalidParameterValue"


def test_nothing_is_shared_with_everybody_where_that_is_blocked(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    public: Any = {"LaunchPermission": {"Add": [{"Group": "all"}]}}
    assert ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"] == "block-new-sharing"
    with pytest.raises(ClientError, match="block public access for AMIs is enabled") as error:
        ec2.modify_image_attribute(ImageId=image, **public)
    assert error.value.response["Error"]["Code"] == "OperationNotPermitted"
    assert permissions(ec2, image) == []
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    ec2.disable_image_block_public_access()
    assert ec2.get_image_block_public_access_state()["ImageBlockPublicAccessState"] == "unblocked"
    ec2.modify_image_attribute(ImageId=image, **public)
    state = ec2.enable_image_block_public_access(ImageBlockPublicAccessState="block-new-sharing")
    assert state["ImageBlockPublicAccessState"] == "block-new-sharing"
    assert {"Group": "all"} in permissions(ec2, image)

    volume = ec2.create_volume(Size=1, AvailabilityZone="eu-west-1a")["VolumeId"]
    snapshot = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    shared: Any = {"SnapshotId": snapshot, "Attribute": "createVolumePermission", "OperationType": "add"}
    assert ec2.get_snapshot_block_public_access_state()["State"] == "unblocked"
    for state in ("block-all-sharing", "block-new-sharing"):
        assert ec2.enable_snapshot_block_public_access(State=state)["State"] == state
        assert refused(ec2.modify_snapshot_attribute, GroupNames=["all"], **shared) == "OperationNotPermitted"
    ec2.modify_snapshot_attribute(UserIds=[OTHER], **shared)
    assert ec2.disable_snapshot_block_public_access()["State"] == "unblocked"
    ec2.modify_snapshot_attribute(GroupNames=["all"], **shared)
    found = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert found["CreateVolumePermissions"] == [{"Group": "all"}, {"UserId": OTHER}]
    ec2.reset_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    found = ec2.describe_snapshot_attribute(SnapshotId=snapshot, Attribute="createVolumePermission")
    assert found["CreateVolumePermissions"] == []


def test_to_delete_the_snapshots_of_an_image_takes_the_right_to_delete_them(lab: Ec2Lab, image: str) -> None:
    def statement(action: str) -> dict[str, str]:
        return {"Effect": "Allow", "Action": f"ec2:{action}", "Resource": "*"}

    ec2 = lab.client("ec2", lab.role("retires", statement("DeregisterImage")))
    assert refused(ec2.deregister_image, ImageId=image, DeleteAssociatedSnapshots=True) == "UnauthorizedOperation"
    lab.policy("retires", statement("DeregisterImage"), statement("DeleteSnapshot"))
    assert ec2.deregister_image(ImageId=image, DeleteAssociatedSnapshots=True)["DeleteSnapshotResults"]
