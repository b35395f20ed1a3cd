"""EBS volumes with data in them: attaching to running machines, snapshots, and deletion."""

from __future__ import annotations

import logging
from typing import Any

from moto.ec2.models.elastic_block_store import EBSBackend

from localcloud.api.patches import ApiError, in_background, patch
from localcloud.ec2.fleet import Attachment, Fleet
from support.errors import Error

log = logging.getLogger(__name__)


class Volumes:
    """moto's volumes as loop devices."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @patch(EBSBackend.attach_volume, wraps=True)
    def attach_volume(self, original: Any, backend: Any, volume_id: str, instance_id: str, *arguments: Any) -> Any:
        """Attach a volume, to the machine too when there is one. `arguments` begin with the device's name."""
        device_path = arguments[0]
        volume, instance = backend.get_volume(volume_id), backend.get_instance(instance_id)
        _check_attachable(volume, instance, device_path)
        if not self._fleet.known(instance_id):  # while RunInstances makes an instance's volumes, it has no machine yet
            return original(backend, volume_id, instance_id, *arguments)
        with self._fleet.in_turn(instance_id):  # a boot reads the list of attachments: before both steps or after both
            try:
                self._fleet.plug(instance_id, Attachment(volume_id, int(volume.size), device_path))
            except Error as error:
                raise ApiError("InternalError", error.summary) from error
            return original(backend, volume_id, instance_id, *arguments)

    @patch(EBSBackend.detach_volume, wraps=True)
    def detach_volume(self, original: Any, backend: Any, volume_id: str, instance_id: str, *arguments: Any) -> Any:
        """Detach a volume, from a running machine in the background."""
        attachment = backend.get_volume(volume_id).attachment
        if attachment is None or (instance_id and attachment.instance.id != instance_id):
            return original(backend, volume_id, instance_id or "", *arguments)  # moto's error for it
        instance_id = attachment.instance.id
        if attachment.instance._state.name in {"shutting-down", "stopped", "terminated"}:
            return original(backend, volume_id, instance_id, *arguments)  # its machine has let go of it
        attachment.status = "detaching"

        def work() -> None:
            try:
                self._fleet.unplug(instance_id, volume_id)
            except Error as error:
                log.warning("%s", error)
                attachment.status = "busy"  # EC2's word for a volume that is still mounted
                return
            original(backend, volume_id, instance_id, *arguments)

        in_background(f"detach {volume_id}", work)
        return attachment

    @patch(EBSBackend.create_volume, wraps=True)
    def create_volume(self, original: Any, backend: Any, *arguments: Any, **given: Any) -> Any:
        """Create a volume, with a snapshot's data when it is made from one."""
        volume = original(backend, *arguments, **given)
        if volume.snapshot_id:
            self._fleet.volumes.restore(volume.snapshot_id, volume.id, int(volume.size))
        return volume

    @patch(EBSBackend.delete_volume, wraps=True)
    def delete_volume(self, original: Any, backend: Any, volume_id: str) -> Any:
        """Delete a volume with its data."""
        volume = original(backend, volume_id)
        self._fleet.volumes.delete(volume_id)
        return volume

    @patch(EBSBackend.create_snapshot, wraps=True)
    def create_snapshot(self, original: Any, backend: Any, volume_id: str, *arguments: Any, **given: Any) -> Any:
        """Create a snapshot with a copy of the volume's data."""
        snapshot = original(backend, volume_id, *arguments, **given)
        self._fleet.volumes.snapshot(volume_id, snapshot.id)
        return snapshot


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
