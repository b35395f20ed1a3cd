from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from localcloud.api.patches import ApiError
from localcloud.ec2.launch.block_devices import launch_mappings


@dataclass
class Image:
    root_device_name: str = "/dev/xvda"
    root_size_gib: int = 8
    block_device_mappings: list[dict[str, Any]] = field(
        default_factory=lambda: [
            {
                "DeviceName": "/dev/xvda",
                "Ebs": {"VolumeSize": 8, "VolumeType": "gp3", "DeleteOnTermination": True, "SnapshotId": "snap-1"},
            }
        ]
    )


def by_device(requested: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["DeviceName"]: one["Ebs"] for one in launch_mappings(Image(), requested)}


def test_the_image_s_own_volumes_are_made_when_nothing_is_asked_for() -> None:
    assert by_device([])["/dev/xvda"]["VolumeSize"] == 8
    assert by_device([])["/dev/xvda"]["DeleteOnTermination"] is True


def test_a_launch_changes_the_root_volume_without_repeating_its_size() -> None:
    root = by_device([{"DeviceName": "/dev/xvda", "Ebs": {"Encrypted": True}}])["/dev/xvda"]
    assert (root["VolumeSize"], root["Encrypted"], root["DeleteOnTermination"]) == (8, True, True)


def test_a_data_volume_stays_unless_it_is_told_to_go() -> None:
    requested = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 20}}
    assert by_device([requested])["/dev/sdf"]["DeleteOnTermination"] is False
    requested["Ebs"] = {"VolumeSize": 20, "DeleteOnTermination": True}
    assert by_device([requested])["/dev/sdf"]["DeleteOnTermination"] is True


def test_a_mapping_can_be_left_out() -> None:
    assert by_device([{"DeviceName": "/dev/xvda", "NoDevice": ""}]) == {}


def test_a_root_volume_smaller_than_the_image_and_a_volume_of_no_size_are_refused() -> None:
    with pytest.raises(ApiError, match="expect size >= 8GB"):
        by_device([{"DeviceName": "/dev/xvda", "Ebs": {"VolumeSize": 7}}])
    with pytest.raises(ApiError, match="size or snapshotId"):
        by_device([{"DeviceName": "/dev/sdf", "Ebs": {"VolumeType": "gp3"}}])


def test_a_key_means_encryption() -> None:
    volume = by_device([{"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "KmsKeyId": "alias/key"}}])["/dev/sdf"]
    assert (volume["Encrypted"], volume["KmsKeyId"]) == (True, "alias/key")
