"""Snapshots: whose they are, what they were made of, how they are found, copied, shared and deleted.

moto shows a snapshot's volume as it is today, knows one owner, and leaves the data of a copy behind.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import InvalidTaggableResourceType
from moto.ec2.models import ec2_backends
from moto.ec2.models.elastic_block_store import EBSBackend, Snapshot
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.ec2.utils import format_timestamp, random_snapshot_id

from localcloud.api.patches import ApiError, patch
from localcloud.ec2.account_settings import check_shared_snapshot, default_key, encrypts, has_key, is_own_key
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.listing import matching, page

# What a copy says of its volume: "an arbitrary volume ID that you should not use" (API_CopySnapshot).
NO_VOLUME = "vol-ffffffff"
_MADE: Any = Snapshot


@dataclass(frozen=True)
class Origin:
    """The volume that a snapshot was made of, as it was then: it may be larger by now, or gone."""

    id: str
    size: int


_FILTERS = {
    "description": lambda snapshot: snapshot.description,
    "encrypted": lambda snapshot: bool(snapshot.encrypted),
    "owner-alias": lambda snapshot: snapshot.owner_alias,
    "owner-id": lambda snapshot: snapshot.owner_id,
    "progress": lambda snapshot: snapshot.progress,
    "snapshot-id": lambda snapshot: snapshot.id,
    "start-time": lambda snapshot: format_timestamp(snapshot.start_time),
    "status": lambda snapshot: snapshot.status,
    "storage-tier": lambda snapshot: snapshot.storage_tier,
    "transfer-type": lambda _snapshot: "standard",
    "volume-id": lambda snapshot: snapshot.volume_id,
    "volume-size": lambda snapshot: snapshot.volume_size,
}


@patch(Snapshot.__init__, wraps=True)
def initialize(original: Any, snapshot: Any, ec2_backend: Any, *arguments: Any, **given: Any) -> None:
    """Keep what the volume was, and by which key it was encrypted."""
    original(snapshot, ec2_backend, *arguments, **given)
    volume = snapshot.volume
    snapshot.volume = Origin(volume.id, int(volume.size))
    snapshot.owner_alias = None
    if snapshot.encrypted and not snapshot.kms_key_id:
        snapshot.kms_key_id = getattr(volume, "kms_key_id", None)


def new_snapshot(backend: Any, volume: Any, description: str, **given: Any) -> Any:
    """Add a snapshot to an account without any data; `volume` has an id and a size."""
    snapshot = _MADE(backend, random_snapshot_id(), volume, description, **given)
    backend.snapshots[snapshot.id] = snapshot
    return snapshot


def own_snapshot(backend: Any, snapshot_id: str) -> Any:
    """Return a snapshot of the account's own. Raises ApiError (InvalidSnapshot.NotFound, OperationNotPermitted)."""
    snapshot = backend.snapshots.get(snapshot_id)
    if snapshot is None:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{snapshot_id}' does not exist.")
    if snapshot.owner_id != backend.account_id:
        raise ApiError("OperationNotPermitted", f"The snapshot {snapshot_id} belongs to another account.")
    return snapshot


def images_with(backend: Any, snapshot_id: str) -> list[Any]:
    """Return the images that have a snapshot among their volumes."""
    return [
        image
        for image in list(backend.amis.values())
        if any(each.get("Ebs", {}).get("SnapshotId") == snapshot_id for each in image.block_device_mappings)
    ]


def copied_encryption(backend: Any, source: Any, encrypted: bool | None, key: str | None) -> tuple[bool, str | None]:
    """Return whether a copy of a snapshot is encrypted, and by which key: never by another region's.

    Raises ApiError (InvalidParameterDependency, InvalidRequest).
    """
    if key and not encrypted:
        raise ApiError("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted.")
    if encrypted is False and source.encrypted:
        raise ApiError(
            "InvalidRequest",
            f"Snapshot {source.id} is encrypted. Creating an unencrypted copy from an encrypted snapshot is not "
            "supported.",
        )
    result = bool(encrypted or source.encrypted or encrypts(backend))
    return result, key or (default_key(backend) if result else None)


def source_backend(response: Any) -> Any:
    """Return moto's backend of a copy's SourceRegion. Raises ApiError (MissingParameter, InvalidRegion)."""
    region, regions = response._get_param("SourceRegion"), ec2_backends[response.current_account]
    if not region:
        raise ApiError("MissingParameter", "The request must contain the parameter SourceRegion")
    if region not in regions.regions:
        raise ApiError("InvalidRegion", f"The source region '{region}' is not valid")
    return regions[region]


def requested_tags(response: Any, *kinds: str) -> dict[str, dict[str, str]]:
    """Return the tags that a call has for each kind of what it makes. Raises ApiError (InvalidParameterValue)."""
    tags: dict[str, dict[str, str]] = {kind: {} for kind in kinds}
    for each in response._get_param("TagSpecifications") or response._get_param("TagSpecification") or []:
        kind = str(each.get("ResourceType"))
        if kind not in tags:
            raise InvalidTaggableResourceType(kind)
        tags[kind].update({tag["Key"]: tag.get("Value", "") for tag in each.get("Tags", [])})
    return tags


@patch(ElasticBlockStore.create_snapshot, wraps=True)
def create_snapshot(original: Any, response: Any) -> ActionResult:
    """CreateSnapshot, which is `pending` in its own answer, and tags nothing but the snapshot."""
    requested_tags(response, "snapshot")
    made = original(response).result
    shown = ("snapshot_id", "volume_id", "volume_size", "owner_id", "description", "encrypted", "kms_key_id")
    names = {"".join(part.capitalize() for part in each.split("_")): getattr(made, each, None) for each in shown}
    return ActionResult(
        {**names, "StartTime": made.start_time, "State": "pending", "Progress": "", "Tags": made.tag_set}
    )


@patch(ElasticBlockStore.describe_snapshots)
def describe_snapshots(response: Any) -> ActionResult:
    """DescribeSnapshots, with owners, who may make volumes of them, pages, and every filter."""
    backend, ids = response.ec2_backend, response._get_param("SnapshotIds", [])
    response.error_on_dryrun()
    if missing := [each for each in ids if each not in backend.snapshots]:
        raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{missing[0]}' does not exist.")
    own = backend.account_id
    owners = {own if each == "self" else each for each in response._get_param("OwnerIds", [])}
    users = {own if each == "self" else each for each in response._get_param("RestorableByUserIds", [])}
    rows = [
        each
        for each in list(backend.snapshots.values())
        if (not ids or each.id in ids)
        and (not owners or owners & {each.owner_id, each.owner_alias})
        and (not users or users & {*each.create_volume_permission_groups, *each.create_volume_permission_userids})
    ]
    rows = matching(rows, response._get_param("Filters", []), _FILTERS)
    shown, token = page(response, rows, ids="SnapshotIds", least=5)
    return ActionResult({"Snapshots": shown, "NextToken": token})


@patch(ElasticBlockStore.modify_snapshot_attribute)
def modify_snapshot_attribute(response: Any) -> EmptyResult:
    """ModifySnapshotAttribute: never of what AWS's own key encrypts, nor with everybody where that is blocked."""
    backend = response.ec2_backend
    snapshot = own_snapshot(backend, response._get_param("SnapshotId"))
    given, kind = response._get_param("CreateVolumePermission") or {}, response._get_param("OperationType")
    short = [{"Group": each} for each in response._get_param("GroupNames", [])]
    short += [{"UserId": each} for each in response._get_param("UserIds", [])]
    added = [*given.get("Add", []), *(short if kind == "add" else [])]
    removed = [*given.get("Remove", []), *(short if kind == "remove" else [])]
    backend.validate_permission_targets([*added, *removed])
    if added and snapshot.encrypted and is_own_key(backend, snapshot.kms_key_id):
        raise ApiError("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
    if {"Group": "all"} in added:
        if snapshot.encrypted:
            raise ApiError("OperationNotPermitted", "Encrypted snapshots cannot be shared publicly")
        check_shared_snapshot(backend)
    response.error_on_dryrun()
    for each in added:
        (
            snapshot.create_volume_permission_groups if "Group" in each else snapshot.create_volume_permission_userids
        ).add(each.get("Group") or each.get("UserId"))
    for each in removed:
        snapshot.create_volume_permission_groups.discard(each.get("Group"))
        snapshot.create_volume_permission_userids.discard(each.get("UserId"))
    return EmptyResult()


@patch(ElasticBlockStore.reset_snapshot_attribute)
def reset_snapshot_attribute(response: Any) -> EmptyResult:
    """ResetSnapshotAttribute: nobody else may make volumes of it any more."""
    snapshot = own_snapshot(response.ec2_backend, response._get_param("SnapshotId"))
    if (attribute := response._get_param("Attribute")) != "createVolumePermission":
        raise ApiError("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    response.error_on_dryrun()
    snapshot.create_volume_permission_groups.clear()
    snapshot.create_volume_permission_userids.clear()
    return EmptyResult()


@patch(ElasticBlockStore.delete_snapshot)
def delete_snapshot(response: Any) -> EmptyResult:
    """DeleteSnapshot, of one's own that no image has."""
    backend, snapshot_id = response.ec2_backend, response._get_param("SnapshotId")
    own_snapshot(backend, snapshot_id)
    response.error_on_dryrun()
    if used := images_with(backend, snapshot_id):
        raise ApiError("InvalidSnapshot.InUse", f"The snapshot {snapshot_id} is currently in use by {used[0].id}")
    backend.delete_snapshot(snapshot_id)
    return EmptyResult()


class Snapshots:
    """moto's snapshots with what a copy takes along: the data, or the layers of a root volume."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet

    @patch(ElasticBlockStore.copy_snapshot)
    def copy_snapshot(self, response: Any) -> ActionResult:
        """CopySnapshot, from another region too."""
        backend, source_id = response.ec2_backend, response._get_param("SourceSnapshotId")
        source = source_backend(response).snapshots.get(source_id)
        if source is None:
            raise ApiError("InvalidSnapshot.NotFound", f"The snapshot '{source_id}' does not exist.")
        tags = requested_tags(response, "snapshot")["snapshot"]
        key = response._get_param("KmsKeyId")
        encrypted, key = copied_encryption(backend, source, response._get_param("Encrypted"), key)
        if key and not has_key(backend, key):
            raise ApiError("InvalidKmsKey.NotFound", f"The specified KMS key {key} does not exist")
        response.error_on_dryrun()
        made = self.copy(backend, source, response._get_param("Description") or "", encrypted, key)
        made.add_tags(tags)
        return ActionResult({"SnapshotId": made.id, "Tags": made.get_tags()})

    def copy(self, backend: Any, source: Any, description: str, encrypted: bool, key: str | None) -> Any:
        """Add a copy of a snapshot of any region, with all that it holds."""
        origin = Origin(NO_VOLUME, source.volume_size)
        made = new_snapshot(backend, origin, description, encrypted=encrypted, kms_key_id=key)
        made.start_time = utcnow()
        self._fleet.volumes.copy_snapshot(source.id, made.id)
        self._fleet.layers.share(source.id, made.id)
        return made

    @patch(EBSBackend.delete_snapshot, wraps=True)
    def forget(self, original: Any, backend: Any, snapshot_id: str) -> Any:
        """Delete a snapshot with what it holds: its data, and the layers that nothing else stands on."""
        snapshot = original(backend, snapshot_id)
        self._fleet.volumes.delete_snapshot(snapshot_id)
        self._fleet.layers.forget_image(snapshot_id)
        return snapshot
