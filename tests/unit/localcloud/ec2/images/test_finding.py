"""DescribeImages and DescribeSnapshots: who finds what."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base, made_image

OTHER = "111122223333"


def names(ec2: Any, **given: Any) -> list[str]:
    return sorted(each.get("Name", "") for each in ec2.describe_images(**given)["Images"])


def by_filter(ec2: Any, name: str, *values: str) -> list[str]:
    return names(ec2, Owners=["self"], Filters=[{"Name": name, "Values": list(values)}])


def test_owners_and_who_may_launch_narrow_what_is_found(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    amazon = names(ec2, Owners=["amazon"])
    assert names(ec2, Owners=["self"]) == ["own"] == names(ec2, Owners=["123456789012"])
    assert names(ec2, Owners=["self", "amazon"]) == names(ec2) == sorted(["own", *amazon])
    assert names(ec2, Owners=[OTHER]) == []
    assert names(ec2, ExecutableUsers=["all"]) == amazon
    assert names(ec2, ExecutableUsers=["self"]) == []
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}, {"UserId": "123456789012"}]})
    assert names(ec2, ExecutableUsers=["self"]) == ["own"] == names(ec2, ExecutableUsers=[OTHER])


def test_every_filter_of_the_documentation_is_there_and_no_other(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    ec2.create_tags(Resources=[image], Tags=[{"Key": "kind", "Value": "a*b"}])
    (found,) = ec2.describe_images(ImageIds=[image])["Images"]
    ebs = found["BlockDeviceMappings"][0]["Ebs"]
    for name, value in {
        "architecture": "arm64",
        "block-device-mapping.delete-on-termination": "true",
        "block-device-mapping.device-name": "/dev/xvda",
        "block-device-mapping.encrypted": "false",
        "block-device-mapping.snapshot-id": ebs["SnapshotId"],
        "block-device-mapping.volume-size": "8",
        "block-device-mapping.volume-type": "gp3",
        "creation-date": found["CreationDate"][:10] + "T*",
        "description": "",
        "ena-support": "true",
        "hypervisor": "xen",
        "image-id": image,
        "image-type": "machine",
        "is-public": "false",
        "manifest-location": "*/own",
        "name": "o?n",
        "owner-id": "123456789012",
        "root-device-name": "/dev/xvda",
        "root-device-type": "ebs",
        "source-image-id": base(ec2),
        "source-image-region": "eu-west-1",
        "source-instance-id": "i-*",
        "sriov-net-support": "simple",
        "state": "available",
        "tag:kind": r"a\*b",
        "tag-key": "kind",
        "virtualization-type": "hvm",
    }.items():
        assert by_filter(ec2, name, "nothing", value) == ["own"], name
        assert by_filter(ec2, name, "nothing") == [], name
    assert by_filter(ec2, "tag:kind", r"a\?b") == [] == by_filter(ec2, "tag:kind", "A*")
    for wrong in ("nonsense", "tag:"):
        with pytest.raises(ClientError, match=f"The filter '{wrong}' is invalid") as error:
            by_filter(ec2, wrong, "x")
        assert error.value.response["Error"]["Code"] == "InvalidParameterValue"


def test_a_disabled_image_is_found_only_by_whoever_asks_for_disabled_ones(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    ec2.modify_image_attribute(ImageId=image, LaunchPermission={"Add": [{"UserId": OTHER}]})
    ec2.disable_image(ImageId=image)
    assert names(ec2, Owners=["self"]) == [] == names(ec2, ImageIds=[image])
    assert names(ec2, Owners=["self"], IncludeDisabled=True) == ["own"]
    launch = {"ImageId": image, "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
    assert refused(ec2.run_instances, **launch) == "InvalidAMIID.Unavailable"
    shared = {"LaunchPermission": {"Add": [{"UserId": OTHER}]}}
    assert refused(ec2.modify_image_attribute, ImageId=image, **shared) == "InvalidAMIID.Unavailable"
    ec2.enable_image(ImageId=image)
    assert names(ec2, Owners=["self"]) == ["own"] == by_filter(ec2, "state", "available")
    assert ec2.describe_image_attribute(ImageId=image, Attribute="launchPermission")["LaunchPermissions"] == []
    assert ec2.run_instances(**launch)["Instances"]


def test_a_deprecated_image_is_hidden_from_all_but_its_owner(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    for each in (image, base(ec2)):
        lab.image(each).deprecation_time = (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:00.000Z")
    assert names(ec2) == ["own"]
    assert len(names(ec2, IncludeDeprecated=True)) == 2


def test_images_and_snapshots_come_in_pages_and_no_made_up_token_opens_one(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    for number in range(3):
        made_image(ec2, f"number-{number}")
    pages = list(ec2.get_paginator("describe_images").paginate(Owners=["self"], PaginationConfig={"PageSize": 2}))
    assert [len(each["Images"]) for each in pages] == [2, 1]
    assert len({one["ImageId"] for each in pages for one in each["Images"]}) == 3
    snapshots = ec2.get_paginator("describe_snapshots").paginate(OwnerIds=["self"], PaginationConfig={"PageSize": 5})
    assert [len(each["Snapshots"]) for each in snapshots] == [3]
    for operation, given, code in (
        (ec2.describe_images, {"NextToken": "garbage"}, "InvalidNextToken"),
        (ec2.describe_images, {"NextToken": "Z2FyYmFnZQ=="}, "InvalidNextToken"),
        (ec2.describe_images, {"MaxResults": 0}, "InvalidParameterValue"),
        (ec2.describe_images, {"MaxResults": 5, "ImageIds": [base(ec2)]}, "InvalidParameterCombination"),
        (ec2.describe_snapshots, {"MaxResults": 4}, "InvalidParameterValue"),
        (ec2.describe_snapshots, {"NextToken": "garbage"}, "InvalidNextToken"),
    ):
        assert refused(operation, **given) == code, given


def test_snapshots_are_found_by_their_owner_who_may_use_them_and_every_filter(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    volume = ec2.create_volume(Size=3, AvailabilityZone="eu-west-1a", Encrypted=True)["VolumeId"]
    made = ec2.create_snapshot(VolumeId=volume, Description="mine")
    ec2.modify_volume(VolumeId=volume, Size=9)
    ec2.delete_volume(VolumeId=volume)
    (found,) = ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]
    assert (found["VolumeId"], found["VolumeSize"], found["KmsKeyId"][:12]) == (volume, 3, "arn:aws:kms:")
    for name, value in {
        "description": "mi*",
        "encrypted": "true",
        "owner-id": "123456789012",
        "progress": "100%",
        "snapshot-id": made["SnapshotId"],
        "start-time": f"{found['StartTime']:%Y-%m-%d}*",
        "status": "completed",
        "storage-tier": "standard",
        "volume-id": volume,
        "volume-size": "3",
    }.items():
        for values, count in (([value, "nothing"], 1), (["nothing"], 0)):
            given: Any = {"OwnerIds": ["self"], "Filters": [{"Name": name, "Values": values}]}
            assert len(ec2.describe_snapshots(**given)["Snapshots"]) == count, name
    assert refused(ec2.describe_snapshots, Filters=[{"Name": "nonsense", "Values": ["x"]}]) == "InvalidParameterValue"
    assert [each["OwnerAlias"] for each in ec2.describe_snapshots(RestorableByUserIds=["all"])["Snapshots"]] == [
        "amazon"
    ]
    assert refused(ec2.describe_snapshots, SnapshotIds=["snap-0123456789abcdef0"]) == "InvalidSnapshot.NotFound"
