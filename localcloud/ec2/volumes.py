"""EBS volumes with data in them: attaching to running machines, snapshots, and deletion."""

from __future__ import annotations

import logging
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.models.elastic_block_store import EBSBackend, Volume, VolumeModification
from moto.ec2.responses.elastic_block_store import ElasticBlockStore

from localcloud.api.patches import ApiError, in_background, patch
from localcloud.ec2.fleet import Attachment, Fleet
from localcloud.ec2.launch.tokens import once
from localcloud.ec2.volume_rules import check_device_name, check_modification, check_volume, performance
from localcloud.ec2.volume_rules import modification_state as state_of
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
        """Detach a volume, from a running machine in the background. `arguments` begin with the device's name."""
        attachment = backend.get_volume(volume_id).attachment
        device = arguments[0] if arguments else None
        _check_detachable(volume_id, attachment, instance_id, device)
        instance, arguments = attachment.instance, (attachment.device,)
        instance_id = instance.id
        if instance._state.name in {"shutting-down", "stopped", "terminated"}:
            return original(backend, volume_id, instance_id, *arguments)  # its machine has let go of it
        if attachment.device == instance.root_device_name:
            raise ApiError(
                "OperationNotPermitted", f"Unable to detach root volume '{volume_id}' from instance '{instance_id}'"
            )
        attachment.status = "detaching"

        def work() -> None:
            try:
                self._fleet.unplug(instance_id, volume_id)
            except Exception as error:
                # Whatever it was: a volume must not hang in detaching.
                log.warning("%s stays attached: %r", volume_id, error)
                attachment.status = "busy"  # EC2's word for a volume that is still mounted
                return
            original(backend, volume_id, instance_id, *arguments)

        in_background(f"detach {volume_id}", work)
        return attachment

    @patch(EBSBackend.create_volume, wraps=True)
    def create_volume(self, original: Any, backend: Any, *arguments: Any, **given: Any) -> Any:
        """Create a volume, with a snapshot's data when it is made from one."""
        volume = original(backend, *arguments, **given)
        try:
            if volume.snapshot_id:
                self._fleet.volumes.restore(volume.snapshot_id, volume.id, int(volume.size))
        except BaseException:
            del backend.volumes[volume.id]
            self._fleet.volumes.delete(volume.id)
            raise
        if volume.encrypted and not volume.kms_key_id and volume.snapshot_id:
            volume.kms_key_id = backend.get_snapshot(volume.snapshot_id).kms_key_id
        # Both are told of every volume, and clients read them.
        volume.multi_attach_enabled, volume.snapshot_id = bool(volume.multi_attach_enabled), volume.snapshot_id or ""
        volume.iops, volume.throughput = performance(
            volume.volume_type, int(volume.size), given.get("iops"), given.get("throughput")
        )
        return volume

    @patch(ElasticBlockStore.modify_volume)
    def modify_volume(self, response: Any) -> ActionResult:
        """ModifyVolume, as EC2 lets a volume be modified; its machine sees a new size at once."""
        volume = response.ec2_backend.get_volume(response._get_param("VolumeId"))
        changed = check_modification(volume, response.params)
        response.error_on_dryrun()
        if changed["size"] > volume.size:
            self._fleet.volumes.grow(volume.id, changed["size"])
        modification = VolumeModification(
            volume,
            changed["size"],
            changed["volume_type"],
            changed["iops"],
            changed["throughput"],
            response._get_param("MultiAttachEnabled"),
        )
        volume.modifications.append(modification)
        vars(volume).update(changed)
        return ActionResult({"VolumeModification": modification})

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
        snapshot.kms_key_id = backend.get_volume(volume_id).kms_key_id
        self._fleet.volumes.snapshot(volume_id, snapshot.id)
        return snapshot


@patch(ElasticBlockStore.create_volume, wraps=True)
def create_volume(original: Any, response: Any) -> Any:
    """CreateVolume of what EC2 has, once for a client token."""
    given = {
        name: response._get_param(name) for name in ("AvailabilityZone", "Iops", "Size", "SnapshotId", "Throughput")
    }
    _check_creatable(response.ec2_backend, given | {"VolumeType": response._get_param("VolumeType") or "gp2"})
    return once(response, "CreateVolume", lambda: ActionResult(_New(original(response).result)))


class _New:
    """A volume as CreateVolume's answer has it."""

    status = "creating"

    def __init__(self, volume: Any) -> None:
        self._volume = volume

    def __getattr__(self, name: str) -> Any:
        return getattr(self._volume, name)


def _check_creatable(backend: Any, given: dict[str, Any]) -> None:
    if not given["AvailabilityZone"]:
        raise ApiError("MissingParameter", "The request must contain the parameter zone")
    snapshot = backend.snapshots.get(given["SnapshotId"])
    if given["SnapshotId"] and snapshot is None:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{given['SnapshotId']}' does not exist.")
    size = snapshot.volume.size if snapshot and given["Size"] is None else given["Size"]
    if size is None:
        raise ApiError("MissingParameter", "The request must contain the parameter size/snapshot")
    if given["AvailabilityZone"] not in {zone.name for zone in backend.describe_availability_zones()}:
        raise ApiError("InvalidZone.NotFound", f"The zone '{given['AvailabilityZone']}' does not exist.")
    check_volume(given["VolumeType"], int(size), given["Iops"], given["Throughput"])
    if snapshot and int(size) < int(snapshot.volume.size):
        raise ApiError(
            "InvalidParameterValue",
            f"The size of a volume ({size} GiB) must be at least that of its snapshot ({snapshot.volume.size} GiB).",
        )


def _check_detachable(volume_id: str, attachment: Any, instance_id: str | None, device: str | None) -> None:
    if attachment is None:
        raise ApiError("IncorrectState", f"Volume '{volume_id}' is in the 'available' state.")
    if instance_id and attachment.instance.id != instance_id:
        raise ApiError(
            "InvalidAttachment.NotFound", f"The volume '{volume_id}' is not attached to instance '{instance_id}'."
        )
    if device and device != attachment.device:
        raise ApiError(
            "InvalidAttachment.NotFound",
            f"The volume {volume_id} is not attached to instance {attachment.instance.id} as device {device}",
        )


@patch(VolumeModification.modification_state)
def modification_state(modification: Any) -> str:
    """Return how far a modification is."""
    return state_of(modification)


@patch(Volume.get_filter_value, wraps=True)
def get_filter_value(original: Any, volume: Any, filter_name: str, method_name: str | None = None) -> Any:
    """Return what DescribeVolumes compares; moto lacks some of its filters."""
    attachment = volume.attachment
    values: dict[str, Any] = {
        "size": str(volume.size),
        "volume-type": volume.volume_type,
        "create-time": f"{volume.create_time:%Y-%m-%dT%H:%M:%S}.000Z",
        "multi-attach-enabled": str(bool(volume.multi_attach_enabled)).lower(),
        "fast-restored": "false",
    }
    if attachment is not None:
        mapped = attachment.instance.block_device_mapping.get(attachment.device)
        values["attachment.delete-on-termination"] = str(bool(mapped and mapped.delete_on_termination)).lower()
        values["attachment.attach-time"] = f"{attachment.attach_time:%Y-%m-%dT%H:%M:%S}.000Z"
    elif filter_name.startswith("attachment."):
        return None
    return values[filter_name] if filter_name in values else original(volume, filter_name, method_name)


@patch(ElasticBlockStore.describe_volumes, wraps=True)
def describe_volumes(original: Any, response: Any) -> Any:
    """DescribeVolumes of what is named as volumes are."""
    for each in response._get_param("VolumeIds", []):
        if not each.startswith("vol-"):
            raise ApiError(
                "InvalidParameterValue", f"Value ({each}) for parameter volumes is invalid. Expected: 'vol-...'."
            )
    return original(response)


@patch(ElasticBlockStore.describe_volume_attribute)
def describe_volume_attribute(response: Any) -> ActionResult:
    """DescribeVolumeAttribute: no volume here is ever doubted, or sold."""
    volume, attribute = (
        response.ec2_backend.get_volume(response._get_param("VolumeId")),
        response._get_param("Attribute"),
    )
    values: dict[str, Any] = {"autoEnableIO": {"AutoEnableIO": {"Value": False}}, "productCodes": {"ProductCodes": []}}
    if attribute not in values:
        raise ApiError("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    return ActionResult({"VolumeId": volume.id, **values[attribute]})


@patch(ElasticBlockStore.describe_volume_status)
def describe_volume_status(response: Any) -> ActionResult:
    """DescribeVolumeStatus: every volume here is well."""
    identifiers = response._get_param("VolumeIds", [])
    wanted = response._filters_from_querystring()
    check = {"Status": "ok", "Details": [{"Name": "io-enabled", "Status": "passed"},
                                         {"Name": "io-performance", "Status": "not-applicable"}]}  # fmt: skip
    values = {"volume-status.status": "ok", "volume-status.details-name": "io-enabled",
              "volume-status.details-status": "passed"}  # fmt: skip
    known = {*values, "availability-zone", "event.description", "event.event-id", "event.event-type",
             "event.not-after", "event.not-before", "action.code", "action.description", "action.event-id"}  # fmt: skip
    for name in wanted:
        if name not in known:
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
    rows = [
        {"VolumeId": volume.id, "AvailabilityZone": volume.availability_zone, "VolumeStatus": check, "Actions": [],
         "Events": []}
        for volume in response.ec2_backend.describe_volumes(volume_ids=identifiers)
        if all({**values, "availability-zone": volume.availability_zone}.get(name) in given
               for name, given in wanted.items())
    ]  # fmt: skip
    return ActionResult({"VolumeStatuses": rows})


def _check_attachable(volume: Any, instance: Any, device_path: str) -> None:
    if volume.attachment is not None:
        raise ApiError("VolumeInUse", f"{volume.id} is already attached to an instance")
    if instance._state.name in {"shutting-down", "terminated"}:
        raise ApiError("IncorrectState", f"Instance '{instance.id}' is not 'running' or 'stopped'.")
    check_device_name(device_path)
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
