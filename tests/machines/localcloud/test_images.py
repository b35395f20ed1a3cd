from __future__ import annotations

import datetime
import json
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.support.machines.lab import Lab, wait_for


def image(lab: Lab, name: str) -> dict[str, Any]:
    result: dict[str, Any] = lab.ec2.describe_images(ImageIds=[name])["Images"][0]
    return result


def tags(kind: str, **values: str) -> dict[str, Any]:
    return {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in values.items()]}


def test_an_image_keeps_what_was_there_and_nothing_that_came_later(lab: Lab) -> None:
    builder = lab.launch_and_wait()
    lab.run(builder, "echo baked >/root/baked; rm /etc/motd || true; mkdir /opt/thing && touch /opt/thing/inside")
    lab.ec2.stop_instances(InstanceIds=[builder])
    lab.wait_state(builder, "stopped")
    made = lab.ec2.create_image(
        InstanceId=builder,
        Name="keeps",
        Description="a description",
        TagSpecifications=[tags("image", a="1"), tags("snapshot", b="2")],
    )["ImageId"]
    shown = image(lab, made)
    assert (shown["State"], shown["Description"], shown["RootDeviceName"]) == (
        "available",
        "a description",
        "/dev/xvda",
    )
    assert shown["Tags"] == [{"Key": "a", "Value": "1"}]
    root = shown["BlockDeviceMappings"][0]["Ebs"]
    snapshot = lab.ec2.describe_snapshots(SnapshotIds=[root["SnapshotId"]])["Snapshots"][0]
    assert (snapshot["Tags"], snapshot["VolumeSize"]) == ([{"Key": "b", "Value": "2"}], root["VolumeSize"])

    lab.ec2.start_instances(InstanceIds=[builder])
    lab.wait_online(builder)
    assert lab.run(builder, "cat /root/baked") == "baked"  # the builder itself goes on with what it had
    lab.run(builder, "echo later >/root/later; rm -r /opt/thing")
    lab.terminate(builder)

    launched = lab.launch_and_wait(made)
    assert lab.run(launched, "cat /root/baked; ls /root /opt/thing; test ! -e /etc/motd && echo gone").split() == [
        "baked", "/opt/thing:", "inside", "/root:", "baked", "gone",
    ]  # fmt: skip
    lab.terminate(launched)
    lab.ec2.deregister_image(ImageId=made)


def test_an_image_of_a_running_instance_stops_and_starts_it_unless_told_not_to(lab: Lab) -> None:
    builder = lab.launch_and_wait()
    boot = lab.run(builder, "cat /proc/sys/kernel/random/boot_id; touch /root/one; sync")
    live = lab.ec2.create_image(InstanceId=builder, Name="live", NoReboot=True)["ImageId"]
    wait_for(lambda: image(lab, live)["State"] == "available", what="the image")
    assert lab.run(builder, "cat /proc/sys/kernel/random/boot_id") == boot
    lab.run(builder, "touch /root/two")
    since = lab.describe(builder)["LaunchTime"]
    still = lab.ec2.create_image(InstanceId=builder, Name="still")["ImageId"]
    wait_for(lambda: image(lab, still)["State"] == "available", what="the image")
    lab.wait_online(builder)
    assert lab.run(builder, "cat /proc/sys/kernel/random/boot_id") != boot
    assert lab.describe(builder)["LaunchTime"] == since
    first, second = lab.launch_and_wait(live), lab.launch_and_wait(still)
    assert lab.run(first, "ls /root") == "one"
    assert lab.run(second, "ls /root").split() == ["one", "two"]
    lab.terminate(builder, first, second)
    for made in (live, still):
        lab.ec2.deregister_image(ImageId=made)


def test_layers_go_with_the_last_image_snapshot_or_instance_that_stands_on_them(lab: Lab) -> None:
    layers = lab.cloud.directory / "layers"
    builder = lab.launch()
    lab.wait_state(builder, "running")
    lab.ec2.stop_instances(InstanceIds=[builder])
    lab.wait_state(builder, "stopped")
    made = lab.ec2.create_image(InstanceId=builder, Name="layered")["ImageId"]
    lab.terminate(builder)
    snapshot = image(lab, made)["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]
    user = lab.launch(made)
    lab.wait_state(user, "running")
    lab.ec2.deregister_image(ImageId=made)
    assert (layers / made).is_dir()  # an instance still runs on it
    lab.terminate(user)
    assert (layers / made).is_dir()  # and so does its snapshot, of which it could be registered again
    lab.ec2.delete_snapshot(SnapshotId=snapshot)
    wait_for(lambda: not [path for path in layers.iterdir() if made in path.name], what="the layer's end")


def test_the_operations_of_an_image_build_are_all_there(lab: Lab) -> None:
    account = lab.cloud.directory / "api.jsonl"
    before = len(account.read_text().splitlines()) if account.exists() else 0
    lab.client("sts").get_caller_identity()
    lab.ec2.describe_regions()
    vpc = lab.ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"][0]["VpcId"]
    subnet = lab.ec2.describe_subnets(Filters=[{"Name": "vpc-id", "Values": [vpc]}])["Subnets"][0]["SubnetId"]
    group = lab.ec2.create_security_group(GroupName="builder", Description="for a build", VpcId=vpc)["GroupId"]
    lab.ec2.describe_security_groups(GroupIds=[group])
    lab.ec2.authorize_security_group_ingress(
        GroupId=group, IpProtocol="tcp", FromPort=22, ToPort=22, CidrIp="0.0.0.0/0"
    )
    lab.ec2.create_key_pair(KeyName="builder", KeyType="ed25519")
    builder = lab.launch(KeyName="builder", SubnetId=subnet, SecurityGroupIds=[group], IamInstanceProfile={"Name": ""})
    lab.wait_state(builder, "running")
    lab.ec2.stop_instances(InstanceIds=[builder])
    lab.wait_state(builder, "stopped")
    made = lab.ec2.create_image(InstanceId=builder, Name="build")["ImageId"]
    with pytest.raises(ClientError, match=r"InvalidAMIName\.Duplicate"):
        lab.ec2.create_image(InstanceId=builder, Name="build")
    lab.terminate(builder)

    when = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=90)
    lab.ec2.enable_image_deprecation(ImageId=made, DeprecateAt=when)
    lab.ec2.modify_image_attribute(ImageId=made, Description={"Value": "changed"})
    lab.ec2.modify_image_attribute(ImageId=made, ImdsSupport={"Value": "v2.0"})
    lab.ec2.modify_image_attribute(ImageId=made, LaunchPermission={"Add": [{"UserId": "111122223333"}]})
    shown = image(lab, made)
    assert shown["DeprecationTime"].startswith(when.strftime("%Y-%m-%dT%H:%M"))
    assert (shown["Description"], shown["ImdsSupport"]) == ("changed", "v2.0")
    permissions = lab.ec2.describe_image_attribute(ImageId=made, Attribute="launchPermission")["LaunchPermissions"]
    assert permissions == [{"UserId": "111122223333"}]
    supported = lab.ec2.describe_image_attribute(ImageId=made, Attribute="imdsSupport")["ImdsSupport"]
    assert supported == {"Value": "v2.0"}

    copied = lab.ec2.copy_image(
        SourceImageId=made, SourceRegion=lab.cloud.region, Name="copy", Encrypted=True, CopyImageTags=True
    )["ImageId"]
    ebs = image(lab, copied)["BlockDeviceMappings"][0]["Ebs"]
    assert ebs["Encrypted"] is True
    assert ebs["KmsKeyId"].startswith("arn:aws:kms:")
    snapshot = shown["BlockDeviceMappings"][0]["Ebs"]["SnapshotId"]  # AWS shares none that its own key encrypts
    lab.ec2.modify_snapshot_attribute(
        SnapshotId=snapshot, Attribute="createVolumePermission", OperationType="add", UserIds=["111122223333"]
    )

    lab.ec2.enable_image_deregistration_protection(ImageId=made)
    with pytest.raises(ClientError, match="OperationNotPermitted"):
        lab.ec2.deregister_image(ImageId=made)
    lab.ec2.disable_image_deregistration_protection(ImageId=made)
    for name in (made, copied):
        lab.ec2.deregister_image(ImageId=name)
    with pytest.raises(ClientError, match="AuthFailure"):
        lab.ec2.deregister_image(ImageId=lab.base_image())
    lab.ec2.describe_volumes(Filters=[{"Name": "attachment.instance-id", "Values": [builder]}])
    lab.ec2.delete_security_group(GroupId=group)
    lab.ec2.delete_key_pair(KeyName="builder")

    calls = [json.loads(line) for line in account.read_text().splitlines()[before:]]
    assert len(calls) > 25
    assert [call for call in calls if not call["emulated"]] == []


def test_only_the_base_images_are_in_the_catalogue_and_in_every_region(lab: Lab) -> None:
    owned = lab.ec2.describe_images(Owners=["amazon"], IncludeDeprecated=True)["Images"]
    assert [one["ImageId"] for one in owned] == [lab.base_image()]
    assert owned[0]["CreationDate"] == "2026-09-30T00:00:00.000Z"
    filters = [{"Name": "ena-support", "Values": ["true"]}, {"Name": "name", "Values": ["al2023-ami-*-arm64"]}]
    assert lab.ec2.describe_images(Owners=["137112412989"], Filters=filters)["Images"] == owned
    elsewhere = lab.session.client("ec2", region_name="us-west-2", endpoint_url=lab.cloud.endpoint)
    assert len(elsewhere.describe_images(Owners=["amazon"])["Images"]) == 1
