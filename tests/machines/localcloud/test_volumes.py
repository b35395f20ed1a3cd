from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from localcloud.machine.volumes import loops_below
from tests.support.machines.lab import Lab, wait_for

FORMAT = "mkfs.xfs -q /dev/sdf && mkdir -p /data && mount /dev/sdf /data"


def disk(**ebs: Any) -> dict[str, Any]:
    return {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3", **ebs}}


def data_volume(lab: Lab, instance: str) -> dict[str, Any]:
    mapped = lab.describe(instance)["BlockDeviceMappings"]
    name = next(one["Ebs"]["VolumeId"] for one in mapped if one["DeviceName"] == "/dev/sdf")
    return volume(lab, name)


def volume(lab: Lab, name: str) -> dict[str, Any]:
    result: dict[str, Any] = lab.ec2.describe_volumes(VolumeIds=[name])["Volumes"][0]
    return result


def test_a_volume_has_the_names_that_ec2_gives_it(lab: Lab) -> None:
    instance = lab.launch_and_wait(BlockDeviceMappings=[disk()])
    name = data_volume(lab, instance)["VolumeId"]
    by_id = f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{name.replace('-', '')}"
    assert lab.run(instance, f"readlink -f /dev/sdf {by_id}").split() == ["/dev/nvme1n1", "/dev/nvme1n1"]
    assert lab.run(instance, "blockdev --getsize64 /dev/nvme1n1") == str(1 << 30)
    lab.terminate(instance)


def test_data_survives_its_instance_and_is_there_on_the_next(lab: Lab) -> None:
    """The incident: a data volume was once lost with its instance."""
    first = lab.launch_and_wait(BlockDeviceMappings=[disk(DeleteOnTermination=False)])
    lab.run(first, f"{FORMAT} && echo precious >/data/file")
    name = data_volume(lab, first)["VolumeId"]
    lab.terminate(first)
    assert volume(lab, name)["State"] == "available"
    second = lab.launch_and_wait()
    lab.ec2.attach_volume(InstanceId=second, VolumeId=name, Device="/dev/sdf")
    assert lab.run(second, "mkdir /data && mount /dev/sdf /data && cat /data/file") == "precious"
    lab.terminate(second)
    lab.ec2.delete_volume(VolumeId=name)


def test_a_volume_that_goes_with_its_instance_is_gone_with_its_file_and_loop_device(lab: Lab) -> None:
    instance = lab.launch_and_wait(BlockDeviceMappings=[disk(DeleteOnTermination=True)])
    name = data_volume(lab, instance)["VolumeId"]
    lab.terminate(instance)
    with pytest.raises(ClientError, match=r"InvalidVolume\.NotFound"):
        volume(lab, name)
    assert not (lab.cloud.directory / "volumes" / f"{name}.img").exists()
    assert loops_below(lab.cloud.directory) == []


def test_the_root_volume_goes_with_its_instance(lab: Lab) -> None:
    instance = lab.launch()
    root = next(one for one in lab.describe(instance)["BlockDeviceMappings"] if one["DeviceName"] == "/dev/xvda")
    lab.terminate(instance)
    with pytest.raises(ClientError, match=r"InvalidVolume\.NotFound"):
        volume(lab, root["Ebs"]["VolumeId"])


def test_a_mounted_volume_is_not_taken_away_and_an_unmounted_one_is(lab: Lab) -> None:
    instance = lab.launch_and_wait(BlockDeviceMappings=[disk()])
    lab.run(instance, FORMAT)
    name = data_volume(lab, instance)["VolumeId"]
    lab.ec2.detach_volume(VolumeId=name)
    wait_for(lambda: volume(lab, name)["Attachments"][0]["State"] == "busy", 40, what="busy")
    with pytest.raises(ClientError, match="VolumeInUse"):
        lab.ec2.delete_volume(VolumeId=name)
    lab.run(instance, "umount /data")
    lab.ec2.detach_volume(VolumeId=name)
    wait_for(lambda: volume(lab, name)["State"] == "available", what="detached")
    assert lab.run(instance, "ls /dev/nvme1n1 /dev/sdf 2>/dev/null | wc -l") == "0"
    lab.terminate(instance)
    lab.ec2.delete_volume(VolumeId=name)


def test_a_volume_in_use_can_t_be_attached_a_second_time(lab: Lab) -> None:
    first, second = lab.launch(BlockDeviceMappings=[disk()]), lab.launch()
    with pytest.raises(ClientError, match="VolumeInUse"):
        lab.ec2.attach_volume(InstanceId=second, VolumeId=data_volume(lab, first)["VolumeId"], Device="/dev/sdf")
    lab.terminate(first, second)


def test_sizes_types_encryption_and_tags_are_recorded(lab: Lab) -> None:
    tags = [{"ResourceType": "volume", "Tags": [{"Key": "purpose", "Value": "data"}]}]
    instance = lab.launch(BlockDeviceMappings=[disk(Encrypted=True)], TagSpecifications=tags)
    result = data_volume(lab, instance)
    assert (result["Size"], result["VolumeType"], result["Encrypted"]) == (1, "gp3", True)
    assert result["KmsKeyId"].startswith("arn:aws:kms:")
    assert result["Tags"] == [{"Key": "purpose", "Value": "data"}]
    lab.terminate(instance)


def test_a_snapshot_keeps_what_the_volume_held_then(lab: Lab) -> None:
    instance = lab.launch_and_wait(BlockDeviceMappings=[disk()])
    lab.run(instance, f"{FORMAT} && echo then >/data/file && umount /data")
    origin = data_volume(lab, instance)
    snapshot = lab.ec2.create_snapshot(VolumeId=origin["VolumeId"], Description="test")["SnapshotId"]
    lab.run(instance, "mount /dev/sdf /data && echo later >/data/file && umount /data")
    restored = lab.ec2.create_volume(SnapshotId=snapshot, AvailabilityZone=origin["AvailabilityZone"])["VolumeId"]
    lab.ec2.attach_volume(InstanceId=instance, VolumeId=restored, Device="/dev/sdg")
    assert lab.run(instance, "mount -o nouuid /dev/sdg /data && cat /data/file && umount /data") == "then"
    lab.terminate(instance)
    lab.ec2.delete_volume(VolumeId=restored)
    lab.ec2.delete_snapshot(SnapshotId=snapshot)
    assert not list(Path(lab.cloud.directory / "snapshots").glob("*"))


def test_a_volume_attached_while_its_machine_boots_is_there_once_it_has_booted(lab: Lab) -> None:
    volume = str(lab.ec2.create_volume(AvailabilityZone="eu-west-1a", Size=1, VolumeType="gp3")["VolumeId"])
    instance = lab.launch()
    lab.ec2.attach_volume(InstanceId=instance, VolumeId=volume, Device="/dev/sdf")
    lab.wait_online(instance)
    assert lab.run(instance, "blockdev --getsize64 /dev/sdf") == str(1 << 30)
    lab.terminate(instance)
    lab.ec2.delete_volume(VolumeId=volume)
