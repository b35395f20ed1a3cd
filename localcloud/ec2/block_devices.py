"""Block device mappings of a launch: those of its image, and those of its own, merged as RunInstances does."""

from __future__ import annotations

from typing import Any

from localcloud.api.patches import ApiError


def launch_mappings(image: Any, requested: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the volumes to make for a launch: the image's mappings, each overridden by the launch's of its device.

    Every mapping has its Ebs part filled in. Raises ApiError (MissingParameter, InvalidBlockDeviceMapping).
    """
    merged = {mapping["DeviceName"]: dict(mapping["Ebs"]) for mapping in image.block_device_mappings}
    for mapping in requested:
        name = mapping.get("DeviceName")
        if not name:
            raise ApiError("MissingParameter", "The request must contain the parameter device name")
        if "NoDevice" in mapping:
            merged.pop(name, None)
            continue
        if "VirtualName" in mapping and "Ebs" not in mapping:
            continue  # an instance store volume: the instance types that images like these run on have none
        overrides = {key: value for key, value in (mapping.get("Ebs") or {}).items() if value not in (None, "")}
        merged[name] = {**merged.get(name, {"DeleteOnTermination": False}), **overrides}
    return [_complete(image, name, ebs) for name, ebs in merged.items()]


def _complete(image: Any, name: str, ebs: dict[str, Any]) -> dict[str, Any]:
    size, snapshot_id = ebs.get("VolumeSize"), ebs.get("SnapshotId")
    if not size and not snapshot_id:
        raise ApiError("MissingParameter", "The request must contain the parameter size or snapshotId")
    if name == image.root_device_name and size and int(size) < image.root_size_gib:
        raise ApiError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= {image.root_size_gib}GB",
        )
    complete = {
        "DeleteOnTermination": bool(ebs.get("DeleteOnTermination", False)),
        "VolumeType": ebs.get("VolumeType") or "gp3",
        "VolumeSize": int(size) if size else None,
        "SnapshotId": snapshot_id,
        "Encrypted": bool(ebs.get("Encrypted", False)) or bool(ebs.get("KmsKeyId")),
        "KmsKeyId": ebs.get("KmsKeyId"),
    }
    return {"DeviceName": name, "NoDevice": None, "Ebs": complete}
