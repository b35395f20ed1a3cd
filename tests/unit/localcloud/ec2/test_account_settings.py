"""Encryption by default, copies of snapshots, and how long an instance that ended is shown."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud import ended
from support.waiting import wait_for
from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base, made_image

ELSEWHERE = "eu-central-1"
ZONE = "eu-west-1a"


def test_where_encryption_is_the_default_nothing_is_stored_in_the_clear(lab: Ec2Lab, image: str) -> None:
    ec2 = lab.client("ec2")
    plain = ec2.create_snapshot(VolumeId=ec2.create_volume(Size=1, AvailabilityZone=ZONE)["VolumeId"])["SnapshotId"]
    assert ec2.get_ebs_default_kms_key_id()["KmsKeyId"] == "alias/aws/ebs"
    assert ec2.enable_ebs_encryption_by_default()["EbsEncryptionByDefault"] is True
    volume = ec2.create_volume(Size=1, AvailabilityZone=ZONE)
    assert volume["Encrypted"] is True
    assert volume["KmsKeyId"].startswith("arn:aws:kms:eu-west-1:")
    assert ec2.create_volume(SnapshotId=plain, AvailabilityZone=ZONE)["Encrypted"] is True
    launched = ec2.describe_images(ImageIds=[made_image(ec2, "launched")])["Images"][0]
    copied = ec2.copy_image(SourceImageId=image, SourceRegion="eu-west-1", Name="copied")["ImageId"]
    for each in (launched, ec2.describe_images(ImageIds=[copied])["Images"][0]):
        assert each["BlockDeviceMappings"][0]["Ebs"]["Encrypted"] is True
    copy = ec2.copy_snapshot(SourceSnapshotId=plain, SourceRegion="eu-west-1")["SnapshotId"]
    assert ec2.describe_snapshots(SnapshotIds=[copy])["Snapshots"][0]["Encrypted"] is True
    ec2.disable_ebs_encryption_by_default()
    assert ec2.create_volume(Size=1, AvailabilityZone=ZONE)["Encrypted"] is False


def test_the_default_key_is_the_one_that_was_chosen_until_it_is_reset(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    key = lab.client("kms").create_key()["KeyMetadata"]["Arn"]
    assert refused(ec2.modify_ebs_default_kms_key_id, KmsKeyId="alias/none") == "InvalidKmsKey.NotFound"
    assert ec2.modify_ebs_default_kms_key_id(KmsKeyId=key)["KmsKeyId"] == key
    own = ec2.create_volume(Size=1, AvailabilityZone=ZONE, Encrypted=True, KmsKeyId="alias/aws/ebs")["VolumeId"]
    given: Any = {"Attribute": "createVolumePermission", "OperationType": "add", "UserIds": ["1" * 12]}
    taken = ec2.create_snapshot(VolumeId=own)["SnapshotId"]
    assert refused(ec2.modify_snapshot_attribute, SnapshotId=taken, **given) == "OperationNotPermitted"
    volume = ec2.create_volume(Size=1, AvailabilityZone=ZONE, Encrypted=True)
    assert volume["KmsKeyId"] == key == ec2.get_ebs_default_kms_key_id()["KmsKeyId"]
    snapshot = ec2.create_snapshot(VolumeId=volume["VolumeId"])["SnapshotId"]
    ec2.reset_ebs_default_kms_key_id()
    assert ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=ZONE)["KmsKeyId"] == key
    assert ec2.create_volume(Size=1, AvailabilityZone=ZONE, Encrypted=True)["KmsKeyId"] != key


def test_aws_s_own_keys_say_that_aws_manages_them(lab: Ec2Lab) -> None:
    ec2, kms = lab.client("ec2"), lab.client("kms")
    ec2.create_volume(Size=1, AvailabilityZone=ZONE, Encrypted=True)
    mine = kms.create_key()["KeyMetadata"]["KeyId"]
    for key, manager in (("alias/aws/ebs", "AWS"), ("alias/aws/ssm", "AWS"), (mine, "CUSTOMER")):
        assert kms.describe_key(KeyId=key)["KeyMetadata"]["KeyManager"] == manager


def test_a_snapshot_is_copied_with_what_it_holds_to_another_region(lab: Ec2Lab) -> None:
    here, there = lab.client("ec2"), lab.client("ec2", region=ELSEWHERE)
    volume = here.create_volume(Size=2, AvailabilityZone=ZONE, Encrypted=True)["VolumeId"]
    source = here.create_snapshot(VolumeId=volume, Description="first")["SnapshotId"]
    given: Any = {"SourceSnapshotId": source, "SourceRegion": "eu-west-1", "Description": "second"}
    tags = [{"ResourceType": "snapshot", "Tags": [{"Key": "a", "Value": "b"}]}]
    answer = there.copy_snapshot(TagSpecifications=tags, **given)
    assert answer["Tags"] == [{"Key": "a", "Value": "b"}]
    (found,) = there.describe_snapshots(SnapshotIds=[answer["SnapshotId"]])["Snapshots"]
    assert (found["Description"], found["VolumeId"], found["VolumeSize"]) == ("second", "vol-ffffffff", 2)
    assert (found["Encrypted"], ELSEWHERE in found["KmsKeyId"]) == (True, True)
    assert (source, answer["SnapshotId"]) in lab.fleet.volumes.copied
    for code, changes in (
        ("InvalidRequest", {"Encrypted": False}),
        ("InvalidParameterDependency", {"KmsKeyId": "alias/aws/ebs"}),
        ("InvalidKmsKey.NotFound", {"KmsKeyId": "alias/none", "Encrypted": True}),
        ("InvalidSnapshot.NotFound", {"SourceSnapshotId": "snap-0123456789abcdef0"}),
        ("InvalidRegion", {"SourceRegion": "nowhere-1"}),
        ("InvalidParameterValue", {"TagSpecifications": [{"ResourceType": "image", "Tags": []}]}),
    ):
        assert refused(there.copy_snapshot, **given | changes) == code


def test_an_instance_that_has_ended_is_shown_for_an_hour(lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ec2 = lab.client("ec2")
    launch: Any = {"ImageId": base(ec2), "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
    gone, kept = (ec2.run_instances(**launch)["Instances"][0]["InstanceId"] for _ in range(2))

    def states() -> dict[str, str]:
        found = [each for one in ec2.describe_instances()["Reservations"] for each in one["Instances"]]
        return {each["InstanceId"]: each["State"]["Name"] for each in found}

    ec2.terminate_instances(InstanceIds=[gone])
    assert wait_for(lambda: states()[gone] == "terminated", 20)
    monkeypatch.setattr(ended, "SECONDS", 0.0)
    assert set(states()) == {kept}
    assert refused(ec2.describe_instances, InstanceIds=[gone]) == "InvalidInstanceID.NotFound"
    assert refused(ec2.terminate_instances, InstanceIds=[gone]) == "InvalidInstanceID.NotFound"
