"""Images made of instances and of snapshots, and their end."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import ClientError

from support.waiting import wait_for
from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base, made_image

ELSEWHERE = "eu-central-1"
DATA = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 20, "VolumeType": "gp3", "Encrypted": True}}


def launched(ec2: Any, *mappings: dict[str, Any], image: str = "") -> str:
    made = ec2.run_instances(
        ImageId=image or base(ec2), InstanceType="t4g.small", MinCount=1, MaxCount=1, BlockDeviceMappings=list(mappings)
    )["Instances"][0]["InstanceId"]
    assert wait_for(lambda: instance(ec2, made)["State"]["Name"] == "running", 60)
    return str(made)


def instance(ec2: Any, name: str) -> dict[str, Any]:
    result: dict[str, Any] = ec2.describe_instances(InstanceIds=[name])["Reservations"][0]["Instances"][0]
    return result


def shown(ec2: Any, image: str) -> dict[str, Any]:
    result: dict[str, Any] = ec2.describe_images(ImageIds=[image], IncludeDisabled=True)["Images"][0]
    return result


def made(ec2: Any, source: str, name: str = "made", **given: Any) -> dict[str, Any]:
    image = ec2.create_image(InstanceId=source, Name=name, **given)["ImageId"]
    assert wait_for(lambda: shown(ec2, image)["State"] == "available", 60)
    return shown(ec2, image)


def devices(image: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["DeviceName"]: each["Ebs"] for each in image["BlockDeviceMappings"]}


def root_of(snapshot: str, **ebs: Any) -> dict[str, Any]:
    return {"DeviceName": "/dev/sda1", "Ebs": {"SnapshotId": snapshot, **ebs}}


def snapshot(ec2: Any, name: str) -> dict[str, Any]:
    result: dict[str, Any] = ec2.describe_snapshots(SnapshotIds=[name])["Snapshots"][0]
    return result


def test_an_image_has_every_volume_that_its_instance_has_each_with_a_snapshot_of_it(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    source = launched(ec2, DATA)
    volumes = {each["DeviceName"]: each["Ebs"]["VolumeId"] for each in instance(ec2, source)["BlockDeviceMappings"]}
    found = devices(made(ec2, source))
    assert {name: (ebs["VolumeSize"], ebs["Encrypted"], ebs["DeleteOnTermination"]) for name, ebs in found.items()} == {
        "/dev/xvda": (8, False, True),
        "/dev/sdf": (20, True, False),
    }
    for name, ebs in found.items():
        taken = snapshot(ec2, ebs["SnapshotId"])
        assert (taken["VolumeId"], taken["VolumeSize"], taken["State"]) == (
            volumes[name],
            ebs["VolumeSize"],
            "completed",
        )
        assert taken["Encrypted"] is ebs["Encrypted"]
    assert {each["Ebs"].get("VolumeId", "")[:4] for each in instance(ec2, launched(ec2))["BlockDeviceMappings"]}
    again = instance(ec2, launched(ec2, image=str(ec2.describe_images(Owners=["self"])["Images"][0]["ImageId"])))
    assert [each["DeviceName"] for each in again["BlockDeviceMappings"]] == ["/dev/xvda", "/dev/sdf"]


def test_what_a_call_says_of_an_image_s_volumes_is_done_or_refused(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    source = launched(ec2, DATA)
    without = made(ec2, source, "without", BlockDeviceMappings=[{"DeviceName": "/dev/sdf", "NoDevice": ""}])
    assert list(devices(without)) == ["/dev/xvda"]
    going = [{"DeviceName": "/dev/sdf", "Ebs": {"DeleteOnTermination": True}}]
    added = {"DeviceName": "/dev/sdg", "Ebs": {"VolumeSize": 3}}
    changed = devices(made(ec2, source, "changed", BlockDeviceMappings=[*going, added]))
    assert (changed["/dev/sdf"]["DeleteOnTermination"], changed["/dev/sdg"]["VolumeSize"]) == (True, 3)
    for code, mapping in (
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/xvda", "NoDevice": ""}),
        ("InvalidBlockDeviceMapping", {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 40}}),
        ("MissingParameter", {"DeviceName": "/dev/sdg", "Ebs": {"VolumeType": "gp3"}}),
        ("InvalidSnapshot.NotFound", {"DeviceName": "/dev/sdg", "Ebs": {"SnapshotId": "snap-0"}}),
        ("UnsupportedOperation", {"DeviceName": "/dev/sdg", "VirtualName": "ephemeral0"}),
    ):
        wrong: Any = {"InstanceId": source, "Name": "wrong", "BlockDeviceMappings": [mapping]}
        assert refused(ec2.create_image, **wrong) == code
    assert {each["Name"] for each in ec2.describe_images(Owners=["self"])["Images"]} == {"without", "changed"}


def test_an_instance_runs_on_while_its_image_is_made_and_keeps_its_launch_time(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    source = launched(ec2)
    before = instance(ec2, source)
    lab.fleet.calls.clear()
    asleep = lab.fleet.hold("capture")
    image = ec2.create_image(InstanceId=source, Name="still")["ImageId"]
    assert wait_for(asleep.is_set, 10)
    assert (instance(ec2, source)["State"]["Name"], shown(ec2, image)["State"]) == ("running", "pending")
    lab.fleet.release()
    assert wait_for(lambda: shown(ec2, image)["State"] == "available", 10)
    assert instance(ec2, source) == before
    assert [each for each in lab.fleet.calls if each in {"halt", "capture", "resume"}] == ["halt", "capture", "resume"]
    lab.fleet.calls.clear()
    made(ec2, source, "live", NoReboot=True)
    assert [each for each in lab.fleet.calls if each in {"halt", "capture", "resume"}] == ["capture"]


def test_an_image_and_its_snapshots_get_their_own_tags_and_nothing_else_is_tagged(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    source = launched(ec2, DATA)
    tags = [{"ResourceType": kind, "Tags": [{"Key": "kind", "Value": kind}]} for kind in ("image", "snapshot")]
    image = made(ec2, source, TagSpecifications=tags)
    assert image["Tags"] == [{"Key": "kind", "Value": "image"}]
    for ebs in devices(image).values():
        assert snapshot(ec2, ebs["SnapshotId"])["Tags"] == [{"Key": "kind", "Value": "snapshot"}]
    wrong = [{"ResourceType": "instance", "Tags": [{"Key": "a", "Value": "b"}]}]
    given: Any = {"Name": "else", "TagSpecifications": wrong}
    for call, more in (
        (ec2.create_image, {"InstanceId": source}),
        (ec2.copy_image, {"SourceImageId": image["ImageId"], "SourceRegion": "eu-west-1"}),
    ):
        with pytest.raises(ClientError, match="'instance' is not a valid taggable resource type") as error:
            call(**given, **more)
        assert error.value.response["Error"]["Code"] == "InvalidParameterValue"


def test_an_image_is_registered_as_it_is_told_or_not_at_all(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    root = devices(shown(ec2, image))["/dev/xvda"]["SnapshotId"]
    ec2.deregister_image(ImageId=image)
    mapping = root_of(root, VolumeSize=12, VolumeType="gp3", Iops=4000)
    given: Any = {
        "Name": "registered",
        "Description": "again",
        "Architecture": "arm64",
        "VirtualizationType": "hvm",
        "EnaSupport": True,
        "ImdsSupport": "v2.0",
        "RootDeviceName": "/dev/sda1",
        "BlockDeviceMappings": [mapping, {"DeviceName": "/dev/sdb", "Ebs": {"VolumeSize": 5, "Encrypted": True}}],
        "TagSpecifications": [{"ResourceType": "image", "Tags": [{"Key": "a", "Value": "b"}]}],
    }
    found = shown(ec2, ec2.register_image(**given)["ImageId"])
    told = ("Name", "Description", "Architecture", "VirtualizationType", "EnaSupport", "ImdsSupport", "RootDeviceName")
    assert {name: found[name] for name in told} == {name: given[name] for name in told}
    assert found["Tags"] == [{"Key": "a", "Value": "b"}]
    ebs = devices(found)
    assert (ebs["/dev/sda1"]["VolumeSize"], ebs["/dev/sda1"]["Iops"], ebs["/dev/sda1"]["SnapshotId"]) == (
        12,
        4000,
        root,
    )
    assert (ebs["/dev/sdb"]["VolumeSize"], ebs["/dev/sdb"]["Encrypted"]) == (5, True)
    assert instance(ec2, launched(ec2, image=found["ImageId"]))["RootDeviceName"] == "/dev/sda1"
    volume = ec2.create_volume(Size=8, AvailabilityZone="eu-west-1a")["VolumeId"]
    data = ec2.create_snapshot(VolumeId=volume)["SnapshotId"]
    for code, changes in (
        ("InvalidAMIName.Duplicate", {}),
        ("InvalidBlockDeviceMapping", {"Name": "else", "RootDeviceName": "/dev/xvda"}),
        ("InvalidBlockDeviceMapping", {"Name": "else", "BlockDeviceMappings": []}),
        ("InvalidSnapshot.NotFound", {"Name": "else", "BlockDeviceMappings": [root_of("snap-0")]}),
        ("InvalidBlockDeviceMapping", {"Name": "else", "BlockDeviceMappings": [root_of(root, VolumeSize=7)]}),
        ("UnsupportedOperation", {"Name": "else", "BlockDeviceMappings": [root_of(data)]}),
        ("UnsupportedOperation", {"Name": "else", "KernelId": "aki-1"}),
        ("InvalidParameterValue", {"Name": "else", "TagSpecifications": [{"ResourceType": "snapshot", "Tags": []}]}),
    ):  # fmt: skip
        assert refused(ec2.register_image, **given | changes) == code, changes
    assert [each["Name"] for each in ec2.describe_images(Owners=["self"])["Images"]] == ["registered"]


def test_an_image_that_was_deregistered_is_unknown_to_every_call(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    ec2.deregister_image(ImageId=image)
    launch = {"InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
    for operation, given in (
        ("describe_images", {"ImageIds": [image]}),
        ("describe_image_attribute", {"ImageId": image, "Attribute": "description"}),
        ("modify_image_attribute", {"ImageId": image, "Description": {"Value": "x"}}),
        ("reset_image_attribute", {"ImageId": image, "Attribute": "launchPermission"}),
        ("copy_image", {"SourceImageId": image, "SourceRegion": "eu-west-1", "Name": "else"}),
        ("run_instances", {"ImageId": image, **launch}),
        ("enable_image_deprecation", {"ImageId": image, "DeprecateAt": "2030-01-01T00:00:00Z"}),
        ("disable_image_deprecation", {"ImageId": image}),
        ("enable_image_deregistration_protection", {"ImageId": image}),
        ("disable_image_deregistration_protection", {"ImageId": image}),
        ("disable_image", {"ImageId": image}),
        ("enable_image", {"ImageId": image}),
    ):
        assert refused(getattr(ec2, operation), **given) == "InvalidAMIID.NotFound", operation
    assert refused(ec2.describe_images, ImageIds=[base(ec2), image]) == "InvalidAMIID.NotFound"
    assert refused(ec2.deregister_image, ImageId=image) == "InvalidAMIID.Unavailable"
    assert refused(ec2.deregister_image, ImageId="ami-0123456789abcdef0") == "InvalidAMIID.NotFound"


def test_snapshots_go_with_their_image_when_told_to_but_for_those_that_another_one_has(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    source = launched(ec2, DATA)
    image = made(ec2, source)
    root, data = (devices(image)[name]["SnapshotId"] for name in ("/dev/xvda", "/dev/sdf"))
    assert refused(ec2.delete_snapshot, SnapshotId=data) == "InvalidSnapshot.InUse"
    mapping: Any = [{"DeviceName": "/dev/xvda", "Ebs": {"SnapshotId": root}}]
    other = ec2.register_image(Name="other", RootDeviceName="/dev/xvda", BlockDeviceMappings=mapping)["ImageId"]
    answer = ec2.deregister_image(ImageId=image["ImageId"], DeleteAssociatedSnapshots=True)
    assert answer["Return"] is True
    assert answer["DeleteSnapshotResults"] == [
        {"SnapshotId": root, "ReturnCode": "skipped"},
        {"SnapshotId": data, "ReturnCode": "success"},
    ]
    assert refused(ec2.describe_snapshots, SnapshotIds=[data]) == "InvalidSnapshot.NotFound"
    assert refused(ec2.delete_snapshot, SnapshotId=root) == "InvalidSnapshot.InUse"
    assert ec2.deregister_image(ImageId=other).get("DeleteSnapshotResults", []) == []
    ec2.delete_snapshot(SnapshotId=root)


def test_a_copy_in_another_region_has_copies_of_all_volumes(lab: Ec2Lab) -> None:
    here, there = lab.client("ec2"), lab.client("ec2", region=ELSEWHERE)
    source = made(here, launched(here, DATA))
    copied = there.copy_image(SourceImageId=source["ImageId"], SourceRegion="eu-west-1", Name="copied")["ImageId"]
    found = shown(there, copied)
    assert {name: ebs["Encrypted"] for name, ebs in devices(found).items()} == {"/dev/xvda": False, "/dev/sdf": True}
    assert ELSEWHERE in devices(found)["/dev/sdf"]["KmsKeyId"]
    for name, ebs in devices(found).items():
        original = devices(source)[name]["SnapshotId"]
        assert snapshot(there, ebs["SnapshotId"])["VolumeId"] == "vol-ffffffff"
        assert (original, ebs["SnapshotId"]) in lab.fleet.volumes.copied
    here.deregister_image(ImageId=source["ImageId"], DeleteAssociatedSnapshots=True)
    assert launched(there, image=copied)
    wrong: Any = {"SourceImageId": source["ImageId"], "SourceRegion": "nowhere-1", "Name": "else"}
    assert refused(there.copy_image, **wrong) == "InvalidRegion"


def test_base_images_are_amazon_s_in_every_answer(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    image = shown(ec2, base(ec2))
    assert (image["OwnerId"], image["ImageOwnerAlias"], image["Public"]) == ("137112412989", "amazon", True)
    root = devices(image)["/dev/xvda"]["SnapshotId"]
    taken = snapshot(ec2, root)
    assert (taken["OwnerId"], taken["OwnerAlias"], taken["VolumeId"]) == ("137112412989", "amazon", "vol-ffffffff")
    assert [each["SnapshotId"] for each in ec2.describe_snapshots(OwnerIds=["amazon"])["Snapshots"]] == [root]
    assert ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"] == []
    assert refused(ec2.delete_snapshot, SnapshotId=root) == "OperationNotPermitted"
    for call in (ec2.deregister_image, ec2.disable_image, ec2.enable_image, ec2.disable_image_deprecation):
        assert refused(call, ImageId=base(ec2)) == "AuthFailure"
    own = made_image(ec2, "own")
    assert [each["ImageId"] for each in ec2.describe_images(Owners=["self"])["Images"]] == [own]
    assert len(ec2.describe_snapshots(OwnerIds=["self"])["Snapshots"]) == 1
