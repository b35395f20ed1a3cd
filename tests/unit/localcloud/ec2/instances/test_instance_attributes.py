"""What of an instance is changed, when, and by which filters it is found."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from localcloud.machine.interface import Size
from tests.support.localcloud.iam import refused
from tests.unit.localcloud.ec2.account import Ec2Lab, base, described, launched, until_state


def modify(ec2: Any, instance: str, **given: Any) -> Any:
    return ec2.modify_instance_attribute(InstanceId=instance, **given)


def value(ec2: Any, instance: str, attribute: str) -> Any:
    shown = ec2.describe_instance_attribute(InstanceId=instance, Attribute=attribute)
    return next(each["Value"] for name, each in shown.items() if name.lower() == attribute.lower())


def test_the_type_is_changed_while_the_instance_is_stopped_and_its_machine_has_its_memory(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    assert refused(modify, ec2, instance, InstanceType={"Value": "t4g.medium"}) == "IncorrectInstanceState"
    assert refused(modify, ec2, instance, UserData={"Value": b"x"}) == "IncorrectInstanceState"
    ec2.stop_instances(InstanceIds=[instance])
    until_state(ec2, instance, "stopped")
    assert refused(modify, ec2, instance, InstanceType={"Value": "t4g.none"}) == "InvalidInstanceType"
    assert refused(modify, ec2, instance, InstanceType={"Value": "t3.small"}) == "InvalidParameterValue"
    modify(ec2, instance, Attribute="instanceType", Value="t4g.medium")
    assert described(ec2, instance)["InstanceType"] == "t4g.medium"
    machine = lab.fleet.instance(instance).machine
    assert machine.spec.size == Size(4 << 30, 2)
    assert f"{4 << 20} kB" in (lab.directory / "machines" / instance / "shared" / "meminfo").read_text()
    modify(ec2, instance, UserData={"Value": b"#!/bin/sh\n"})
    assert base64.b64decode(value(ec2, instance, "userData")) == b"#!/bin/sh\n"
    assert refused(modify, ec2, instance, UserData={"Value": b"x" * 16385}) == "InvalidParameterValue"


def test_a_change_changes_what_it_names_and_nothing_else(lab: Ec2Lab) -> None:
    """moto took the change of a shutdown's behaviour for one of the groups, to none."""
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    modify(ec2, instance, InstanceInitiatedShutdownBehavior={"Value": "terminate"})
    assert value(ec2, instance, "instanceInitiatedShutdownBehavior") == "terminate"
    assert [each["GroupName"] for each in described(ec2, instance)["SecurityGroups"]] == ["default"]
    assert refused(modify, ec2, instance) == "InvalidParameterCombination"
    two = {"DisableApiStop": {"Value": True}, "SourceDestCheck": {"Value": False}}
    assert refused(modify, ec2, instance, **two) == "InvalidParameterCombination"
    group = ec2.create_security_group(GroupName="own", Description="x")["GroupId"]
    modify(ec2, instance, Groups=[group])
    shown = described(ec2, instance)
    assert [each["GroupId"] for each in shown["SecurityGroups"]] == [group]
    assert [each["GroupId"] for each in shown["NetworkInterfaces"][0]["Groups"]] == [group]
    assert refused(modify, ec2, instance, Groups=["sg-0123456789abcdef0"]) == "InvalidGroup.NotFound"
    modify(ec2, instance, BlockDeviceMappings=[{"DeviceName": "/dev/xvda", "Ebs": {"DeleteOnTermination": False}}])
    assert not described(ec2, instance)["BlockDeviceMappings"][0]["Ebs"]["DeleteOnTermination"]


def test_termination_and_stop_protection_protect_in_both_spellings(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2, DisableApiTermination=True)
    assert refused(ec2.terminate_instances, InstanceIds=[instance]) == "OperationNotPermitted"
    modify(ec2, instance, Attribute="disableApiTermination", Value="false")
    modify(ec2, instance, Attribute="disableApiStop", Value="true")
    assert refused(ec2.stop_instances, InstanceIds=[instance]) == "OperationNotPermitted"
    ec2.terminate_instances(InstanceIds=[instance])


def test_monitoring_is_switched(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    instance = launched(ec2)
    for switch, state in ((ec2.monitor_instances, "enabled"), (ec2.unmonitor_instances, "disabled")):
        (row,) = switch(InstanceIds=[instance])["InstanceMonitorings"]
        assert row["InstanceId"] == instance
        assert described(ec2, instance)["Monitoring"]["State"] == state
    assert refused(ec2.monitor_instances, InstanceIds=["i-0123456789abcdef0"]) == "InvalidInstanceID.NotFound"


def test_instances_are_found_by_every_filter_that_their_description_has(lab: Ec2Lab) -> None:
    ec2 = lab.client("ec2")
    tags = [{"ResourceType": "instance", "Tags": [{"Key": "Name", "Value": "web-1"}]}]
    wanted = launched(ec2, ClientToken="mine", TagSpecifications=tags, InstanceType="m7g.medium")
    launched(ec2)
    shown = described(ec2, wanted)
    (interface,) = shown["NetworkInterfaces"]
    root = shown["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]
    unlike = {
        "client-token": "mine", "instance-id": wanted, "instance-type": "m7g.*", "tag:Name": "web-?", "tag-key": "Name",
        "private-ip-address": shown["PrivateIpAddress"], "private-dns-name": shown["PrivateDnsName"],
        "block-device-mapping.volume-id": root, "network-interface.network-interface-id":
        interface["NetworkInterfaceId"],
    }  # fmt: skip
    both = {
        "launch-time": f"{shown['LaunchTime']:%Y-%m-%d}T*", "root-device-name": "/dev/xvda", "root-device-type": "ebs",
        "instance-state-code": "16", "instance-state-name": "running", "image-id": base(ec2), "architecture": "arm64",
        "block-device-mapping.device-name": "/dev/xvda", "monitoring-state": "disabled", "launch-index": "0",
        "instance.group-name": "default", "metadata-options.http-tokens": "required", "tenancy": "default",
        "vpc-id": shown["VpcId"], "hypervisor": "xen", "source-dest-check": "true",
    }  # fmt: skip
    nobody = {
        "client-token": "",
        "instance-state-code": "80",
        "outpost-arn": "x",
        "launch-time": "2001*",
        "key-name": "x",
    }
    for filters, count in ((unlike, 1), (both, 2), (nobody, 0)):
        for name, text in filters.items():
            found = ec2.describe_instances(Filters=[{"Name": name, "Values": [text]}])["Reservations"]
            assert (name, len(found)) == (name, count)
    assert refused(ec2.describe_instances, Filters=[{"Name": "nonsense", "Values": ["x"]}]) == "InvalidParameterValue"


@pytest.mark.parametrize(("name", "text", "count"), [
    ("instance-state-name", "running", 1), ("instance-status.status", "ok", 1), ("availability-zone", "eu-west-1c", 0),
])  # fmt: skip
def test_statuses_are_found_by_filters(lab: Ec2Lab, name: str, text: str, count: int) -> None:
    ec2 = lab.client("ec2")
    launched(ec2)
    found = ec2.describe_instance_status(Filters=[{"Name": name, "Values": [text]}])["InstanceStatuses"]
    assert len(found) == count
