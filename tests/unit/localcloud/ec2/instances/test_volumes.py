"""Volumes as EBS lets them be made, modified and detached."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.models import ec2_backends

from localcloud.ec2.volume_rules import TYPES
from localcloud.settings import ACCOUNT
from tests.support.localcloud.iam import REGION, refused
from tests.unit.localcloud.ec2.account import Ec2Lab, described, launched, until_state

ZONE = f"{REGION}a"


def create(ec2: Any, **given: Any) -> Any:
    return ec2.create_volume(**{"AvailabilityZone": ZONE, "Size": 10, **given})["VolumeId"]


def shown(ec2: Any, volume: str) -> dict[str, Any]:
    result: dict[str, Any] = ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]
    return result


@pytest.mark.parametrize("kind", TYPES)
def test_a_type_s_smallest_and_largest_volumes_are_made_and_no_others(lab: Ec2Lab, kind: str) -> None:
    ec2, (smallest, largest) = lab.client("ec2"), TYPES[kind].sizes
    more = {"Iops": 100} if kind in {"io1", "io2"} else {}
    for size in (smallest, largest):
        assert shown(ec2, create(ec2, VolumeType=kind, Size=size, **more))["Size"] == size
    for size in (0, smallest - 1, largest + 1):
        assert refused(create, ec2, VolumeType=kind, Size=size, **more) == "InvalidParameterValue"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"VolumeType": "gp9"}, "UnknownVolumeType", "Unsupported volume type 'gp9'"),
    ({"AvailabilityZone": "eu-west-1z"}, "InvalidZone.NotFound", "The zone 'eu-west-1z' does not exist"),
    ({"VolumeType": "gp2", "Iops": 3000}, "InvalidParameterCombination",
     "The parameter iops is not supported for gp2 volumes"),
    ({"VolumeType": "io2"}, "InvalidParameterCombination", "The parameter iops must be specified for io2 volumes"),
    ({"VolumeType": "io1", "Iops": 600}, "InvalidParameterValue",
     "Iops to volume size ratio of 60.000000 is too high; maximum is 50"),
    ({"VolumeType": "gp3", "Iops": 2000}, "InvalidParameterValue", "too low"),
    ({"VolumeType": "gp3", "Iops": 15000}, "InvalidParameterValue", "ratio of 1500.000000 is too high"),
    ({"VolumeType": "io2", "Iops": 100, "Throughput": 200}, "InvalidParameterCombination",
     "throughput can only be specified for volumeType gp3"),
    ({"VolumeType": "gp3", "Throughput": 1000}, "InvalidParameterValue", "iops ratio of 0.333333 is too high"),
    ({"SnapshotId": "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound", "does not exist"),
]  # fmt: skip


def test_volumes_that_ebs_does_not_have_are_refused_in_its_words(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    for given, code, words in REFUSED:
        with pytest.raises(ClientError, match=words) as error:
            create(ec2, **given)
        assert error.value.response["Error"]["Code"] == code
    assert ec2.describe_volumes()["Volumes"] == []


def test_iops_and_throughput_are_kept_by_volumes_and_by_launches(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    wanted: dict[str, dict[str, Any]] = {
        "/dev/sdf": {"VolumeSize": 10, "VolumeType": "gp3", "Iops": 4000, "Throughput": 250},
        "/dev/sdg": {"VolumeSize": 10, "VolumeType": "io2", "Iops": 500},
        "/dev/sdh": {"VolumeSize": 10, "VolumeType": "gp2"},
    }
    mappings = [{"DeviceName": name, "Ebs": ebs} for name, ebs in wanted.items()]
    instance = launched(ec2, BlockDeviceMappings=mappings)
    volumes = {each["Attachments"][0]["Device"]: each for each in ec2.describe_volumes()["Volumes"]}
    assert {each["Attachments"][0]["InstanceId"] for each in volumes.values()} == {instance}
    assert (volumes["/dev/sdf"]["Iops"], volumes["/dev/sdf"]["Throughput"]) == (4000, 250)
    assert volumes["/dev/sdg"]["Iops"] == 500
    assert volumes["/dev/sdh"]["Iops"] == 100
    root = volumes["/dev/xvda"]
    assert (root["VolumeType"], root["Iops"], root["Throughput"]) == ("gp3", 3000, 125)
    assert shown(ec2, create(ec2, VolumeType="gp3", Iops=4000))["Iops"] == 4000


def test_a_volume_grows_once_and_does_not_shrink(lab: Ec2Lab) -> None:
    ec2, volume = lab.client("ec2"), create(lab.client("ec2"), VolumeType="gp3")

    def modify(**given: Any) -> Any:
        return ec2.modify_volume(VolumeId=volume, **given)["VolumeModification"]

    with pytest.raises(ClientError, match="New size cannot be smaller than existing size"):
        modify(Size=9)
    assert refused(modify, VolumeType="standard", Size=2000) == "InvalidParameterValue"
    assert refused(modify) == "InvalidParameterCombination"
    assert modify(Size=20, Iops=4000)["TargetSize"] == 20
    now = shown(ec2, volume)
    assert (now["Size"], now["Iops"], now["Throughput"]) == (20, 4000, 125)
    (state,) = ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
    assert state["ModificationState"] == "optimizing"
    assert refused(modify, Size=30) == "IncorrectModificationState"
    (done,) = ec2_backends[ACCOUNT][REGION].volumes[volume].modifications
    done.start_time -= timedelta(minutes=5)
    (state,) = ec2.describe_volumes_modifications(VolumeIds=[volume])["VolumesModifications"]
    assert state["ModificationState"] == "completed"
    assert refused(modify, Size=30) == "VolumeModificationRateExceeded"
    done.start_time -= timedelta(hours=6)
    modify(Size=30)


def test_a_volume_changes_its_type_with_what_the_new_one_has(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    volume = create(ec2, VolumeType="gp3", Iops=4000, Throughput=250)
    ec2.modify_volume(VolumeId=volume, VolumeType="gp2")
    assert (shown(ec2, volume)["Iops"], shown(ec2, volume).get("Throughput")) == (100, None)


def test_a_volume_is_detached_from_where_it_is_and_a_running_root_from_nowhere(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    instance, other, volume = launched(ec2), launched(ec2), create(ec2)
    assert refused(ec2.detach_volume, VolumeId=volume) == "IncorrectState"
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    where = {"VolumeId": volume, "InstanceId": instance, "Device": "/dev/sdf"}
    for wrong in ({"Device": "/dev/sdg"}, {"InstanceId": other}):
        assert refused(ec2.detach_volume, **{**where, **wrong}) == "InvalidAttachment.NotFound"
    root = described(ec2, instance)["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    with pytest.raises(ClientError, match=f"Unable to detach root volume '{root}' from instance '{instance}'"):
        ec2.detach_volume(VolumeId=root)
    assert shown(ec2, root)["State"] == "in-use"
    ec2.detach_volume(**where)
    ec2.stop_instances(InstanceIds=[instance])
    until_state(ec2, instance, "stopped")
    ec2.detach_volume(VolumeId=root, Device="/dev/xvda")
    assert shown(ec2, root)["State"] == "available"


def test_a_volume_of_an_encrypted_snapshot_has_its_key(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    key = lab.client("kms").create_key()["KeyMetadata"]["Arn"]
    snapshot = ec2.create_snapshot(VolumeId=create(ec2, Encrypted=True, KmsKeyId=key))["SnapshotId"]
    volume = shown(ec2, create(ec2, SnapshotId=snapshot))
    assert (volume["Encrypted"], volume["KmsKeyId"]) == (True, key)


def test_a_client_token_makes_one_volume(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    assert create(ec2, ClientToken="one") == create(ec2, ClientToken="one")
    assert refused(create, ec2, ClientToken="one", Size=11) == "IdempotentParameterMismatch"
    assert len(ec2.describe_volumes()["Volumes"]) == 1


def test_volumes_are_found_and_told_to_be_well(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    small, large = create(ec2, Size=1, VolumeType="gp3"), create(ec2, Size=2)
    created = shown(ec2, small)["CreateTime"]
    for name, value in (("size", "1"), ("volume-type", "gp3"), ("volume-id", small)):
        found = ec2.describe_volumes(Filters=[{"Name": name, "Values": [value]}])["Volumes"]
        assert [each["VolumeId"] for each in found] == [small]
    date = [{"Name": "create-time", "Values": [f"{created:%Y-%m-%d}*"]}]
    assert len(ec2.describe_volumes(Filters=date)["Volumes"]) == 2
    statuses = ec2.describe_volume_status(VolumeIds=[small])["VolumeStatuses"]
    assert [(each["VolumeId"], each["VolumeStatus"]["Status"]) for each in statuses] == [(small, "ok")]
    assert {each["VolumeId"] for each in ec2.describe_volume_status()["VolumeStatuses"]} == {small, large}
    well = [{"Name": "volume-status.status", "Values": ["impaired"]}]
    assert ec2.describe_volume_status(Filters=well)["VolumeStatuses"] == []
    assert refused(ec2.describe_volume_status, VolumeIds=["vol-0123456789abcdef0"]) == "InvalidVolume.NotFound"
    assert refused(ec2.describe_volume_status, Filters=[{"Name": "x", "Values": []}]) == "InvalidParameterValue"
