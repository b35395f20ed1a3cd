"""A launch that is refused, or that fails halfway, leaves nothing.

One into an unknown subnet once left a reservation without instances, at which every later launch of the region failed;
one of an io2 volume without IOPS an instance that ran without a machine and could not be terminated.
"""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Any

import pytest
from botocore.exceptions import ClientError
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import EBSBackend
from moto.ec2.models.elastic_network_interfaces import NetworkInterfaceBackend
from moto.ec2.models.iam_instance_profile import IamInstanceProfileAssociationBackend

from localcloud.ec2.fleet import Fleet
from localcloud.machine.layers import Layers
from localcloud.machine.volumes import Volumes
from localcloud.settings import ACCOUNT
from support.errors import Error
from tests.support.localcloud.iam import REGION, IamLab, refused
from tests.unit.localcloud.ec2.account import base, until_state


def volume(**ebs: Any) -> dict[str, Any]:
    return {"BlockDeviceMappings": [{"DeviceName": "/dev/sdf", "Ebs": ebs}]}


# What is asked for -> what EC2 answers.
REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"ImageId": "ami-0123456789abcdef0"}, "InvalidAMIID.NotFound"),
    ({"ImageId": "resolve:ssm:/no/such"}, "SsmInvalidParameter"),
    ({"InstanceType": "t4g.enormous"}, "InvalidInstanceType"),
    ({"InstanceType": "t3.small"}, "InvalidParameterValue"),
    ({"InstanceType": "hpc7g.4xlarge", "Placement": {"AvailabilityZone": "eu-west-1a"}}, "Unsupported"),
    ({"Placement": {"AvailabilityZone": "us-east-1a"}}, "InvalidParameterValue"),
    ({"SubnetId": "subnet-0123456789abcdef0"}, "InvalidSubnetID.NotFound"),
    ({"NetworkInterfaces": [{"DeviceIndex": 0, "SubnetId": "subnet-0123456789abcdef0"}]}, "InvalidSubnetID.NotFound"),
    ({"NetworkInterfaces": [{"DeviceIndex": 0, "NetworkInterfaceId": "eni-0123456789abcdef0"}]},
     "InvalidNetworkInterfaceID.NotFound"),
    ({"NetworkInterfaces": [{"DeviceIndex": 0}, {"DeviceIndex": 1, "SubnetId": "subnet-0123456789abcdef0"}]},
     "InvalidSubnetID.NotFound"),
    ({"NetworkInterfaces": [{"DeviceIndex": 0, "Groups": ["sg-0123456789abcdef0"]}]}, "InvalidGroup.NotFound"),
    ({"NetworkInterfaces": [{"DeviceIndex": 1}]}, "InvalidParameterValue"),
    ({"NetworkInterfaces": [{"DeviceIndex": 0}], "SecurityGroups": ["default"]}, "InvalidParameterCombination"),
    ({"SecurityGroupIds": ["sg-0123456789abcdef0"]}, "InvalidGroup.NotFound"),
    ({"SecurityGroups": ["nobody"]}, "InvalidGroup.NotFound"),
    ({"KeyName": "nobody"}, "InvalidKeyPair.NotFound"),
    ({"UserData": "x" * (16385)}, "InvalidParameterValue"),
    ({"IamInstanceProfile": {"Name": "nobody"}}, "InvalidParameterValue"),
    ({"IamInstanceProfile": {"Arn": f"arn:aws:iam::{ACCOUNT}:instance-profile/nobody"}}, "InvalidParameterValue"),
    ({"PrivateIpAddress": "10.1.2.3"}, "InvalidParameterValue"),
    ({"PrivateIpAddress": "172.31.0.77"}, "UnsupportedOperation"),
    ({"CreditSpecification": {"CpuCredits": "some"}}, "InvalidParameterValue"),
    ({"LaunchTemplate": {"LaunchTemplateName": "nobody"}}, "InvalidLaunchTemplateName.NotFoundException"),
    ({"MinCount": 2, "MaxCount": 1}, "InvalidParameterCombination"),
    ({"MinCount": 0, "MaxCount": 0}, "InvalidParameterValue"),
    ({"MinCount": 300, "MaxCount": 300}, "InsufficientFreeAddressesInSubnet"),
    ({"DryRun": True}, "DryRunOperation"),
    (volume(), "MissingParameter"),
    (volume(VolumeSize=8, VolumeType="io2"), "InvalidParameterCombination"),
    (volume(VolumeSize=8, VolumeType="gp2", Iops=3000), "InvalidParameterCombination"),
    (volume(VolumeSize=8, VolumeType="gp9"), "UnknownVolumeType"),
    (volume(VolumeSize=1, VolumeType="st1"), "InvalidParameterValue"),
    (volume(SnapshotId="snap-0123456789abcdef0"), "InvalidSnapshot.NotFound"),
    ({"BlockDeviceMappings": [{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 1}}]}, "InvalidBlockDeviceMapping"),
    ({"BlockDeviceMappings": [{"DeviceName": "disk", "Ebs": {"VolumeSize": 1}}]}, "InvalidParameterValue"),
    ({"TagSpecifications": [{"ResourceType": "vpc", "Tags": [{"Key": "a", "Value": "b"}]}]}, "InvalidParameterValue"),
    ({"TagSpecifications": [{"Tags": [{"Key": "a", "Value": "b"}]}]}, "InvalidParameter"),
]  # fmt: skip

# Where a launch of two instances, each with a second volume and a profile, can fail once it has begun.
HALFWAY: list[tuple[type, str, int]] = [
    (Fleet, "create", 1),
    (Fleet, "create", 2),
    (Layers, "create", 2),
    (EBSBackend, "create_volume", 2),
    (EBSBackend, "create_volume", 4),
    (Volumes, "restore", 2),
    (EBSBackend, "attach_volume", 1),
    (EBSBackend, "attach_volume", 4),
    (NetworkInterfaceBackend, "create_network_interface", 2),
    (IamInstanceProfileAssociationBackend, "associate_iam_instance_profile", 2),
]


def launch(ec2: Any, **given: Any) -> Any:
    request = {"ImageId": base(ec2), "InstanceType": "t4g.small", "MinCount": 1, "MaxCount": 1}
    return ec2.run_instances(**{**request, **given})


def world(lab: IamLab) -> dict[str, Any]:
    """Return whatever a launch could leave: in the API, in moto, in the fleet's directory."""
    ec2, backend = lab.client("ec2"), ec2_backends[ACCOUNT][REGION]
    return {
        "instances": ec2.describe_instances()["Reservations"],
        "volumes": set(backend.volumes),
        "interfaces": {name: vars(each).get("attachment_id") for name, each in backend.enis.items()},
        "profiles": set(backend.iam_instance_profile_associations),
        "reservations": dict(backend.reservations),
        "tags": {name: dict(tags) for name, tags in backend.tags.items() if tags},
        "subnets": {one.id: dict(one._subnet_ips) for zone in backend.subnets.values() for one in zone.values()},
        "files": sorted(path.name for part in ("machines", "volumes") for path in (lab.directory / part).glob("*")),
    }


def test_a_refused_launch_leaves_nothing(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    before = world(lab)
    for given, code in REFUSED:
        assert (refused(launch, ec2, **given), given) == (code, given)
        assert world(lab) == before, given
    # And a good one is launched afterwards, and ends.
    (instance,) = launch(ec2, ClientToken="token")["Instances"]
    until_state(ec2, instance["InstanceId"], "running")
    ec2.terminate_instances(InstanceIds=[instance["InstanceId"]])
    until_state(ec2, instance["InstanceId"], "terminated")
    ended = world(lab)
    assert (ended["volumes"], ended["interfaces"], ended["subnets"]) == (set(), {}, before["subnets"])


def failing(owner: type, name: str, number: int, error: Exception) -> Callable[..., Any]:
    """Return what fails at its call of that number, and does its work before."""
    original, calls = getattr(owner, name), []

    def method(*arguments: Any, **given: Any) -> Any:
        calls.append(arguments)
        if len(calls) == number:
            raise error
        return original(*arguments, **given)

    return method


@pytest.mark.parametrize("error", [Error("full", code="x", expected="", found=""), OSError(28, "full")], ids=repr)
def test_a_launch_that_fails_halfway_leaves_nothing(
    lab: IamLab, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    ec2 = lab.client("ec2")
    lab.client("iam").create_instance_profile(InstanceProfileName="profile")
    snapshot = ec2.create_snapshot(VolumeId=ec2.create_volume(AvailabilityZone="eu-west-1a", Size=1)["VolumeId"])
    ec2.create_network_interface(SubnetId=ec2.describe_subnets()["Subnets"][0]["SubnetId"])
    tags = [{"ResourceType": kind, "Tags": [{"Key": "a", "Value": "b"}]}
            for kind in ("instance", "volume", "network-interface")]  # fmt: skip
    whole = {
        "MinCount": 2, "MaxCount": 2, "IamInstanceProfile": {"Name": "profile"}, "ClientToken": "one",
        "TagSpecifications": tags, **volume(SnapshotId=snapshot["SnapshotId"]),
    }  # fmt: skip
    before = world(lab)
    for owner, name, number in HALFWAY:
        with monkeypatch.context() as seeded:
            seeded.setattr(owner, name, failing(owner, name, number, error))
            with pytest.raises(ClientError):
                launch(ec2, **whole)
        assert world(lab) == before, (owner, name, number)
    # The token of the call that failed launches now, and once.
    names = [{each["InstanceId"] for each in launch(ec2, **whole)["Instances"]} for _ in range(2)]
    assert (len(names[0]), names[0]) == (2, names[1])


def test_user_data_of_16_kib_is_taken(lab: IamLab) -> None:
    ec2 = lab.client("ec2")
    instance = launch(ec2, UserData="x" * 16384)["Instances"][0]["InstanceId"]
    shown = ec2.describe_instance_attribute(InstanceId=instance, Attribute="userData")["UserData"]["Value"]
    assert len(base64.b64decode(shown)) == 16384
    with pytest.raises(ClientError, match="User data is limited to 16384 bytes"):
        launch(ec2, UserData="x" * 16385)


def test_an_unknown_profile_is_refused_in_ec2_s_words(lab: IamLab) -> None:
    words = r"Value \(nobody\) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name"
    with pytest.raises(ClientError, match=words):
        launch(lab.client("ec2"), IamInstanceProfile={"Name": "nobody"})
