"""The volumes of an image: those of the instance that it is made of, and those that a call names."""

from __future__ import annotations

from typing import Any

from localcloud.api.patches import ApiError
from localcloud.ec2.snapshots import new_snapshot

Mapping = dict[str, Any]
# What CreateImage lets nobody change of a volume that is there (API_CreateImage).
_FIXED = ("VolumeSize", "VolumeType", "Encrypted", "KmsKeyId", "SnapshotId", "Iops", "Throughput")


def captured(
    backend: Any, instance: Any, requested: list[Mapping], description: str, image_id: str
) -> tuple[list[Mapping], list[tuple[Any, str]]]:
    """Make the snapshots of an instance's image, `pending` and empty; return its mappings, and what to fill them from.

    The latter are pairs of a snapshot and the id of its volume. `requested` are CreateImage's BlockDeviceMappings.
    Raises ApiError (InvalidBlockDeviceMapping, MissingParameter, UnsupportedOperation).
    """
    changes = {_name(each): each for each in requested}
    volumes = [(name, each, changes.pop(name, {})) for name, each in instance.get_block_device_mapping]
    if any("NoDevice" in change and name == instance.root_device_name for name, _, change in volumes):
        raise ApiError("InvalidBlockDeviceMapping", "The root device of an image can't be left out.")
    for name, _, change in volumes:
        if fixed := [each for each in _FIXED if each in (change.get("Ebs") or {})]:
            raise ApiError("InvalidBlockDeviceMapping", f"{fixed[0]} of {name} can't be changed when an image is made.")
    added = [_added(backend, name, each) for name, each in changes.items() if "NoDevice" not in each]
    mappings, sources = [], []
    for name, attached, change in volumes:
        if "NoDevice" in change:
            continue
        volume = backend.get_volume(attached.volume_id)
        snapshot = new_snapshot(
            backend, volume, description, from_ami=image_id, encrypted=volume.encrypted, kms_key_id=volume.kms_key_id
        )
        snapshot.status = "pending"
        sources.append((snapshot, volume.id))
        goes = (change.get("Ebs") or {}).get("DeleteOnTermination", attached.delete_on_termination)
        mappings.append({"DeviceName": name, "Ebs": ebs(snapshot, volume.size, volume.volume_type, bool(goes), volume)})
    return [*mappings, *added], sources


def registered(backend: Any, requested: list[Mapping]) -> list[Mapping]:
    """Return the mappings of an image that RegisterImage makes: snapshots that are there, and empty volumes.

    Raises ApiError (MissingParameter, InvalidSnapshot.NotFound, InvalidBlockDeviceMapping, UnsupportedOperation).
    """
    names = [_name(each) for each in requested]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ApiError(
            "InvalidBlockDeviceMapping", f"The device '{twice}' is used in more than one block-device mapping"
        )
    return [_added(backend, name, each) for name, each in zip(names, requested, strict=True) if "NoDevice" not in each]


def ebs(snapshot: Any, size: int, volume_type: str | None, goes: bool, volume: Any = None) -> Mapping:
    """Return a mapping's Ebs part; `goes` says that the volume ends with its instance."""
    described: Mapping = {
        "DeleteOnTermination": goes,
        "VolumeSize": int(size),
        "VolumeType": volume_type or "gp3",
        "Encrypted": bool(snapshot is not None and snapshot.encrypted),
    }
    if snapshot is not None:
        described["SnapshotId"] = snapshot.id
        if snapshot.kms_key_id:
            described["KmsKeyId"] = snapshot.kms_key_id
    for name in ("iops", "throughput"):
        if volume is not None and getattr(volume, name, None) and volume_type in {"gp3", "io1", "io2"}:
            described[name.capitalize()] = getattr(volume, name)
    return described


def _name(mapping: Mapping) -> str:
    if not mapping.get("DeviceName"):
        raise ApiError("MissingParameter", "The request must contain the parameter device name")
    return str(mapping["DeviceName"])


def _added(backend: Any, name: str, mapping: Mapping) -> Mapping:
    given = mapping.get("Ebs")
    if not given:
        raise ApiError("UnsupportedOperation", f"The local cloud has no instance store volume for {name}.")
    snapshot_id, size = given.get("SnapshotId"), given.get("VolumeSize")
    snapshot = backend.snapshots.get(snapshot_id) if snapshot_id else None
    if snapshot_id and snapshot is None:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if snapshot is None and not size:
        raise ApiError("MissingParameter", "The request must contain the parameter size or snapshotId")
    if snapshot is not None and size and int(size) < snapshot.volume_size:
        raise ApiError(
            "InvalidBlockDeviceMapping",
            f"Volume of size {size}GB is smaller than snapshot '{snapshot_id}', expect size >= "
            f"{snapshot.volume_size}GB",
        )
    goes = bool(given.get("DeleteOnTermination", True))
    whole = snapshot.volume_size if snapshot is not None else 0
    described = ebs(snapshot, size or whole, given.get("VolumeType"), goes)
    if snapshot is None:
        described["Encrypted"] = bool(given.get("Encrypted") or given.get("KmsKeyId"))
    described.update({key: given[key] for key in ("KmsKeyId", "Iops", "Throughput") if given.get(key)})
    return {"DeviceName": name, "Ebs": described}
