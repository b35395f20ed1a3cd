"""Whatever a machine's part of an operation raises, the instance reaches a state that can be left.

A forced stop once hung in `stopping`: the control groups that it walked through were removed meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from localcloud.ec2.fleet import Fleet
from localcloud.machine.layers import Layers
from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, described, launched, until_state

BROKEN = FileNotFoundError(2, "it was removed meanwhile")


def broken(*_: Any, **__: Any) -> Any:
    raise BROKEN


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize(("owner", "name"), [(Fleet, "halt"), (Fleet, "_release"), (Layers, "unmount")])
def test_a_stop_that_fails_ends_in_stopped(
    lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch, owner: type, name: str, force: bool
) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    with monkeypatch.context() as seeded:
        seeded.setattr(owner, name, broken)
        ec2.stop_instances(InstanceIds=[instance], Force=force)
        until_state(ec2, instance, "stopped")
    assert described(ec2, instance)["StateReason"]["Code"] == "Server.InternalError"
    ec2.start_instances(InstanceIds=[instance])
    until_state(ec2, instance, "running")


@pytest.mark.parametrize(("owner", "name"), [(Fleet, "halt"), (Fleet, "destroy"), (Layers, "forget_instance")])
def test_a_termination_that_fails_ends_in_terminated_and_without_volumes(
    lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    with monkeypatch.context() as seeded:
        seeded.setattr(owner, name, broken)
        ec2.terminate_instances(InstanceIds=[instance])
        until_state(ec2, instance, "terminated")
    assert ec2.describe_volumes()["Volumes"] == []
    assert ec2.describe_network_interfaces()["NetworkInterfaces"] == []


def test_a_machine_that_does_not_boot_ends_its_launch_as_terminated_without_volumes(
    lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = lab.client("ec2")
    stays = launched(ec2)
    ec2.stop_instances(InstanceIds=[stays])
    until_state(ec2, stays, "stopped")
    monkeypatch.setattr(lab.fleet, "boot", broken)
    goes = launched(ec2, state="terminated")
    assert described(ec2, goes)["StateReason"]["Code"] == "Server.InternalError"
    assert {each["Attachments"][0]["InstanceId"] for each in ec2.describe_volumes()["Volumes"]} == {stays}
    ec2.start_instances(InstanceIds=[stays])
    until_state(ec2, stays, "stopped")


def test_a_machine_that_ends_by_itself_is_stopped_whatever_that_raises(
    lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = lab.client("ec2")
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(lab.fleet, "boot", lambda _id, _volumes, on_exit: ends.append(on_exit))
    instance = launched(ec2)
    monkeypatch.setattr(Fleet, "_release", broken)
    ends[0]()
    assert described(ec2, instance)["State"]["Name"] == "stopped"


def test_an_end_that_comes_after_a_termination_changes_nothing(lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ec2 = lab.client("ec2")
    ends: list[Callable[[], None]] = []
    monkeypatch.setattr(lab.fleet, "boot", lambda _id, _volumes, on_exit: ends.append(on_exit))
    instance = launched(ec2)
    ec2.terminate_instances(InstanceIds=[instance])
    until_state(ec2, instance, "terminated")
    ends[0]()
    assert described(ec2, instance)["State"]["Name"] == "terminated"


def test_a_detachment_that_fails_leaves_the_volume_busy_and_not_detaching(
    lab: Ec2Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    volume = ec2.create_volume(AvailabilityZone="eu-west-1a", Size=1)["VolumeId"]
    ec2.attach_volume(VolumeId=volume, InstanceId=instance, Device="/dev/sdf")
    with monkeypatch.context() as seeded:
        seeded.setattr(Fleet, "unplug", broken)
        ec2.detach_volume(VolumeId=volume)
        shown = [""]
        while shown != ["busy"]:
            shown = [each["State"] for each in ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["Attachments"]]
            assert shown in (["detaching"], ["busy"])
    ec2.stop_instances(InstanceIds=[instance])
    until_state(ec2, instance, "stopped")
    ec2.detach_volume(VolumeId=volume)
    assert ec2.describe_volumes(VolumeIds=[volume])["Volumes"][0]["State"] == "available"


def test_the_public_address_is_there_while_the_instance_runs(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    address = described(ec2, instance)["PrivateIpAddress"]
    assert described(ec2, instance)["PublicIpAddress"] == address
    dns = f"ip-{address.replace('.', '-')}.eu-west-1.compute.internal"
    (interface,) = described(ec2, instance)["NetworkInterfaces"]
    assert (described(ec2, instance)["PrivateDnsName"], interface["PrivateDnsName"]) == (dns, dns)
    assert interface["Association"]["PublicIp"] == address
    ec2.stop_instances(InstanceIds=[instance])
    until_state(ec2, instance, "stopped")
    stopped = described(ec2, instance)
    assert "PublicIpAddress" not in stopped
    assert not stopped.get("PublicDnsName")
    assert "Association" not in stopped["NetworkInterfaces"][0]
    assert stopped["PrivateIpAddress"] == address
    ec2.start_instances(InstanceIds=[instance])
    until_state(ec2, instance, "running")
    assert described(ec2, instance)["PublicIpAddress"] == address


def test_a_launch_without_a_public_address_has_none(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    interface = {"DeviceIndex": 0, "AssociatePublicIpAddress": False}
    private = launched(ec2, NetworkInterfaces=[interface])
    assert "PublicIpAddress" not in described(ec2, private)
    vpc = ec2.create_vpc(CidrBlock="10.90.0.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.90.0.0/25")["Subnet"]["SubnetId"]
    assert "PublicIpAddress" not in described(ec2, launched(ec2, SubnetId=subnet))
    public = {**interface, "SubnetId": subnet, "AssociatePublicIpAddress": True}
    assert described(ec2, launched(ec2, NetworkInterfaces=[public]))["PublicIpAddress"]


def test_a_private_address_of_the_machines_network_is_given_and_any_other_refused(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    network = str(described(ec2, launched(ec2))["PrivateIpAddress"]).rpartition(".")[0]
    vpc = ec2.create_vpc(CidrBlock=f"{network}.0/24")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=f"{network}.0/24")["Subnet"]["SubnetId"]
    asked = f"{network}.77"
    given = launched(ec2, SubnetId=subnet, PrivateIpAddress=asked)
    assert described(ec2, given)["PrivateIpAddress"] == asked
    assert refused(launched, ec2, SubnetId=subnet, PrivateIpAddress=asked) == "InvalidIPAddress.InUse"
    assert refused(launched, ec2, PrivateIpAddress="172.31.0.9") == "UnsupportedOperation"
    interface = ec2.create_network_interface(SubnetId=subnet, PrivateIpAddress=f"{network}.78")["NetworkInterface"]
    own = {"DeviceIndex": 0, "NetworkInterfaceId": interface["NetworkInterfaceId"]}
    with_own = launched(ec2, NetworkInterfaces=[own])
    assert described(ec2, with_own)["PrivateIpAddress"] == f"{network}.78"
    assert refused(launched, ec2, NetworkInterfaces=[own]) == "InvalidNetworkInterface.InUse"
    ec2.terminate_instances(InstanceIds=[with_own])
    until_state(ec2, with_own, "terminated")
    (left,) = ec2.describe_network_interfaces(NetworkInterfaceIds=[own["NetworkInterfaceId"]])["NetworkInterfaces"]
    assert left["Status"] == "available"


def test_an_instance_wears_the_default_group_when_its_launch_names_none(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    shown = described(ec2, launched(ec2))
    assert [each["GroupName"] for each in shown["SecurityGroups"]] == ["default"]
    assert shown["NetworkInterfaces"][0]["Groups"] == shown["SecurityGroups"]
