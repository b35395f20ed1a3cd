"""EBS volumes with data in them: attaching to running machines, snapshots, and deletion."""

from __future__ import annotations

import logging
from typing import Any

from moto.ec2.models.elastic_block_store import EBSBackend

from localcloud.api.patches import ApiError, in_background, replace
from localcloud.ec2.fleet import Attachment, Fleet
from support.errors import Error

log = logging.getLogger(__name__)


def install(fleet: Fleet) -> None:
    """Put loop devices behind moto's volumes."""
    attach, detach = EBSBackend.attach_volume, EBSBackend.detach_volume
    create, delete = EBSBackend.create_volume, EBSBackend.delete_volume
    create_snapshot, delete_snapshot = EBSBackend.create_snapshot, EBSBackend.delete_snapshot

    def attach_volume(
        backend: Any, volume_id: str, instance_id: str, device_path: str, delete_on_termination: bool = False
    ) -> Any:
        volume, instance = backend.get_volume(volume_id), backend.get_instance(instance_id)
        _check_attachable(volume, instance, device_path)
        if not fleet.known(instance_id):  # while RunInstances makes an instance's volumes, it has no machine yet
            return attach(backend, volume_id, instance_id, device_path, delete_on_termination)
        with fleet.in_turn(instance_id):  # a boot reads the list of attachments: before both steps or after both
            try:
                fleet.plug(instance_id, Attachment(volume_id, int(volume.size), device_path))
            except Error as fault:
                raise ApiError("InternalError", fault.summary) from fault
            return attach(backend, volume_id, instance_id, device_path, delete_on_termination)

    def detach_volume(backend: Any, volume_id: str, instance_id: str, device_path: str) -> Any:
        volume = backend.get_volume(volume_id)
        held = volume.attachment
        if held is None or (instance_id and held.instance.id != instance_id):
            return detach(backend, volume_id, instance_id or "", device_path)  # moto's error for it
        instance_id = held.instance.id
        if held.instance._state.name in {"shutting-down", "stopped", "terminated"}:
            return detach(backend, volume_id, instance_id, device_path)  # its machine has let go of it
        held.status = "detaching"

        def work() -> None:
            try:
                fleet.unplug(instance_id, volume_id)
            except Error as fault:
                log.warning("%s", fault)
                held.status = "busy"  # EC2's word for a volume that is still mounted
                return
            detach(backend, volume_id, instance_id, device_path)

        in_background(f"detach {volume_id}", work)
        return held

    def create_volume(backend: Any, *args: Any, **kwargs: Any) -> Any:
        volume = create(backend, *args, **kwargs)
        if volume.snapshot_id:
            fleet.volumes.restore(volume.snapshot_id, volume.id, int(volume.size))
        return volume

    def delete_volume(backend: Any, volume_id: str) -> Any:
        volume = delete(backend, volume_id)
        fleet.volumes.delete(volume_id)
        return volume

    def snapshot(backend: Any, volume_id: str, *args: Any, **kwargs: Any) -> Any:
        made = create_snapshot(backend, volume_id, *args, **kwargs)
        fleet.volumes.snapshot(volume_id, made.id)
        return made

    def forget_snapshot(backend: Any, snapshot_id: str) -> Any:
        gone = delete_snapshot(backend, snapshot_id)
        fleet.volumes.delete_snapshot(snapshot_id)
        return gone

    replace(EBSBackend, "attach_volume", attach_volume)
    replace(EBSBackend, "detach_volume", detach_volume)
    replace(EBSBackend, "create_volume", create_volume)
    replace(EBSBackend, "delete_volume", delete_volume)
    replace(EBSBackend, "create_snapshot", snapshot)
    replace(EBSBackend, "delete_snapshot", forget_snapshot)


def _check_attachable(volume: Any, instance: Any, device_path: str) -> None:
    if volume.attachment is not None:
        raise ApiError("VolumeInUse", f"{volume.id} is already attached to an instance")
    if instance._state.name in {"shutting-down", "terminated"}:
        raise ApiError("IncorrectState", f"Instance '{instance.id}' is not 'running' or 'stopped'.")
    if device_path in instance.block_device_mapping:
        raise ApiError(
            "InvalidParameterValue",
            f"Invalid value '{device_path}' for unixDevice. Attachment point {device_path} is already in use",
        )
    if volume.availability_zone and volume.availability_zone != instance.availability_zone:
        raise ApiError(
            "InvalidVolume.ZoneMismatch",
            f"The volume '{volume.id}' is not in the same availability zone as instance '{instance.id}'",
        )
