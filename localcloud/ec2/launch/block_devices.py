"""Block device mappings of a launch: those of its image, and those of its own, merged as RunInstances does."""

from __future__ import annotations

from typing import Any

from localcloud.api.patches import ApiError
from localcloud.ec2.volume_rules import check_device_name, check_volume


def launch_mappings(
    image: Any, requested: list[dict[str, Any]], snapshots: dict[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Return the volumes to make for a launch: the image's mappings, each overridden by the launch's of its device.

    Every mapping has its Ebs part filled in; `snapshots` are those of the region, by id.
    Raises ApiError: MissingParameter, InvalidBlockDeviceMapping, InvalidSnapshot.NotFound, and check_volume's.
    """
    merged = {mapping["DeviceName"]: dict(mapping["Ebs"]) for mapping in image.block_device_mappings}
    seen: set[str] = set()
    for mapping in requested:
        name = mapping.get("DeviceName")
        if not name:
            raise ApiError("MissingParameter", "The request must contain the parameter device name")
        check_device_name(name)
        if name in seen:
            raise ApiError(
                "InvalidBlockDeviceMapping", f"The device '{name}' is used in more than one block-device mapping"
            )
        seen.add(name)
        if "NoDevice" in mapping:
            merged.pop(name, None)
            continue
        if "VirtualName" in mapping and "Ebs" not in mapping:
            continue  # an instance store volume: the instance types that images like these run on have none
        overrides = {key: value for key, value in (mapping.get("Ebs") or {}).items() if value not in (None, "")}
        below = merged.get(name, {"DeleteOnTermination": False})
        if overrides.get("VolumeType", below.get("VolumeType")) != below.get("VolumeType"):
            below = {key: value for key, value in below.items() if key not in {"Iops", "Throughput"}}
        merged[name] = {**below, **overrides}
    return [_complete(image, name, ebs, snapshots or {}) for name, ebs in merged.items()]


def _complete(image: Any, name: str, ebs: dict[str, Any], snapshots: dict[str, Any]) -> dict[str, Any]:
    size, snapshot_id = ebs.get("VolumeSize"), ebs.get("SnapshotId")
    if not size and not snapshot_id:
        raise ApiError("MissingParameter", "The request must contain the parameter size or snapshotId")
    if name == image.root_device_name and size and int(size) < image.root_size_gib:
        raise _too_small(int(size), snapshot_id, image.root_size_gib)
    if snapshot_id and name != image.root_device_name:
        if snapshot_id not in snapshots:
            raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
        smallest = int(snapshots[snapshot_id].volume.size)
        if size and int(size) < smallest:
            raise _too_small(int(size), snapshot_id, smallest)
        size = size or smallest
    kind = ebs.get("VolumeType") or "gp3"
    check_volume(kind, int(size or image.root_size_gib), ebs.get("Iops"), ebs.get("Throughput"))
    if ebs.get("KmsKeyId") and ebs.get("Encrypted") is False:
        raise ApiError(
            "InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted to be set."
        )
    complete = {
        "DeleteOnTermination": bool(ebs.get("DeleteOnTermination", False)),
        "VolumeType": kind,
        "VolumeSize": int(size) if size else None,
        "Iops": ebs.get("Iops"),
        "Throughput": ebs.get("Throughput"),
        "SnapshotId": snapshot_id,
        "Encrypted": bool(ebs.get("Encrypted", False)) or bool(ebs.get("KmsKeyId")),
        "KmsKeyId": ebs.get("KmsKeyId"),
    }
    return {"DeviceName": name, "NoDevice": None, "Ebs": complete}


def _too_small(size: int, snapshot_id: str | None, smallest: int) -> ApiError:
    return ApiError(
        "InvalidBlockDeviceMapping",
        f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {smallest}GB",
    )
