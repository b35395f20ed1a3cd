"""EC2 images that hold what was installed: the catalogue, and creating, copying, registering and deregistering.

moto 5.2.5 lacks or drops much of what an image build asks for (all volumes but the root, snapshot tags, descriptions,
IMDS support, encryption of copies, sizes): those operations are replaced whole. An image's files are layers; its root
snapshot holds them as well, and on after the image, as on AWS.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.utils import random_ami_id

from localcloud.api.patches import ApiError, in_background, patch
from localcloud.ec2.account_settings import has_key
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.image_attributes import check_deregistration, own_image
from localcloud.ec2.images.devices import captured, ebs, registered
from localcloud.ec2.instances import attachments
from localcloud.ec2.snapshots import (
    NO_VOLUME,
    Origin,
    Snapshots,
    copied_encryption,
    images_with,
    requested_tags,
    source_backend,
)
from localcloud.settings import ACCOUNT, BaseImage
from support.errors import Error

log = logging.getLogger(__name__)
# With the fields below, which moto's images lack; each has a default.
_NewAmi: Any = Ami
_FIELDS: dict[str, Any] = {
    "mappings": None,
    "root_size_gib": 8,
    "ena_support": True,
    "imds_support": None,
    "deprecation_time": None,
    "deregistration_protection": "disabled",
    "protected_until": None,
    "source_image_id": None,
    "source_image_region": None,
    "sriov_net_support": "simple",
    "last_launched_time": None,
    "client_token": None,
    "platform_details": "Linux/UNIX",
    "usage_operation": "RunInstances",
}
# API_CreateImage; the message that AWS gives is shorter than that.
_NAME = re.compile(r"[A-Za-z0-9()\[\] ./\-'@_]{3,128}", re.ASCII)
# What RegisterImage may be told that nothing here could do.
_NOT_HERE = ("ImageLocation", "BillingProducts", "KernelId", "RamdiskId", "UefiData", "TpmSupport", "BootMode")


def base_image_id(name: str, region: str) -> str:
    """Return the id of a base image: the same for a name and region in every cloud."""
    return "ami-" + hashlib.sha256(f"{region}/{name}".encode()).hexdigest()[:17]


def regions() -> list[str]:
    """Return the regions that moto serves, each of which offers the base images."""
    return sorted(ec2_backends[ACCOUNT].regions)


@patch(Ami.__init__, wraps=True)
def initialize(original: Any, ami: Any, ec2_backend: Any, *arguments: Any, **given: Any) -> None:
    """Give an image the fields that moto's lack, and all its volumes.

    Without `mappings` it has the root volume alone, of `root_size_gib`, with a snapshot whose volume nobody knows.
    """
    fields = {name: given.pop(name, default) for name, default in _FIELDS.items()}
    original(ami, ec2_backend, *arguments, region_name=f"{ec2_backend.region_name}a", **given)
    vars(ami).update(fields)
    if ami.mappings is None:
        snapshot = ami.ebs_snapshot
        snapshot.volume, snapshot.owner_alias = Origin(NO_VOLUME, ami.root_size_gib), ami.owner_alias
        snapshot.encrypted, snapshot.kms_key_id = False, None
        ami.mappings = [{"DeviceName": ami.root_device_name, "Ebs": ebs(snapshot, ami.root_size_gib, "gp3", goes=True)}]
    else:  # its snapshots are made already
        ec2_backend.snapshots.pop(ami.ebs_snapshot.id)
    root = next(each["Ebs"] for each in ami.mappings if each["DeviceName"] == ami.root_device_name)
    ami.ebs_snapshot = ec2_backend.snapshots[root["SnapshotId"]]
    ami.root_size_gib, ami.root_encrypted, ami.root_kms_key_id = (
        root["VolumeSize"],
        root["Encrypted"],
        root.get("KmsKeyId"),
    )


@patch(Ami.block_device_mappings)
def block_device_mappings(ami: Any) -> list[dict[str, Any]]:
    """Return the mappings of an image, the root volume's among them."""
    return [{"DeviceName": each["DeviceName"], "Ebs": dict(each["Ebs"])} for each in ami.mappings]


class Images:
    """moto's images as stacks of layers, with the base images for a catalogue."""

    def __init__(self, fleet: Fleet, base_images: tuple[BaseImage, ...]) -> None:
        self._fleet = fleet
        self._base_images = base_images
        self._snapshots = Snapshots(fleet)

    @patch(AmiBackend._load_amis)
    def load_base_images(self, backend: Any) -> None:
        """Offer the base images, and not moto's hundreds that nothing stands behind."""
        for image in self._base_images:
            image_id = base_image_id(image.name, backend.region_name)
            ami = backend.amis[image_id] = _NewAmi(
                backend,
                image_id,
                name=image.name,
                description=image.description,
                owner_id=image.owner_id,
                owner_alias=image.owner_alias,
                public=True,
                virtualization_type="hvm",
                architecture=image.architecture,
                creation_date=default_timestamp_parser(image.creation_date),
                image_location=f"{image.owner_alias}/{image.name}",
                hypervisor="xen",
                root_device_type="ebs",
                root_device_name=image.root_device,
                boot_mode="uefi",
                root_size_gib=image.root_size_gib,
                imds_support="v2.0",
            )
            ami.ebs_snapshot.start_time = ami.creation_date
            ami.ebs_snapshot.create_volume_permission_groups.add("all")
            self._fleet.layers.share(image_id, ami.ebs_snapshot.id)

    @patch(AmisResponse.deregister_image)
    def deregister_image(self, response: Any) -> ActionResult:
        """DeregisterImage, with DeleteAssociatedSnapshots: of those that no other image has."""
        backend, image_id = response.ec2_backend, response._get_param("ImageId")
        if image_id in backend.amis:
            check_deregistration(own_image(response))
        response.error_on_dryrun()
        image = backend.amis.get(image_id)
        backend.deregister_image(image_id)
        in_background(f"deregister {image_id}", lambda: self._fleet.layers.forget_image(image_id))
        results = []
        if response._get_param("DeleteAssociatedSnapshots", False):
            results = [{"SnapshotId": each, "ReturnCode": _delete(backend, each)} for each in _snapshots_of(image)]
        return ActionResult({"Return": True, "DeleteSnapshotResults": results})

    @patch(AmisResponse.create_image)
    def create_image(self, response: Any) -> ActionResult:
        """CreateImage, of all volumes that the instance has. Its machine is off meanwhile, unless NoReboot.

        The image is `pending` until its layer is there; the instance is shown as running throughout, as on AWS.
        """
        backend, name = response.ec2_backend, response._get_param("Name")
        instance = backend.get_instance(response._get_param("InstanceId"))
        tags = requested_tags(response, "image", "snapshot")
        _check_name(backend, name)
        if instance._state.name not in {"running", "stopped"}:
            state = instance._state.name
            reason = f"The instance '{instance.id}' is {state}: it has to be running or stopped."
            raise ApiError("IncorrectInstanceState", reason)
        response.error_on_dryrun()
        ami_id = random_ami_id()
        described = f"Created by CreateImage({instance.id}) for {ami_id}"
        mappings, sources = captured(
            backend, instance, response._get_param("BlockDeviceMappings", []), described, ami_id
        )
        origin = backend.amis.get(instance.image_id)
        ami = _NewAmi(
            backend,
            ami_id,
            instance=instance,
            name=name,
            description=response._get_param("Description", ""),
            state="pending",
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=instance.root_device_name,
            image_location=f"{backend.account_id}/{name}",
            source_image_id=instance.image_id,
            source_image_region=backend.region_name,
            mappings=mappings,
            boot_mode=origin.boot_mode if origin else "uefi",
        )
        backend.amis[ami_id] = ami
        _add_tags(ami, tags)
        reboot = not response._get_param("NoReboot", False)
        if instance._state.name == "stopped" and len(sources) == 1:
            self._capture(instance, ami, sources, reboot)  # a rename: over before the response is written
        else:
            in_background(f"image {ami_id}", lambda: self._capture(instance, ami, sources, reboot))
        return ActionResult({"ImageId": ami_id})

    def _capture(self, instance: Any, ami: Any, sources: list[tuple[Any, str]], reboot: bool) -> None:
        try:
            with self._fleet.in_turn(instance.id):
                off = reboot and instance._state.name == "running"
                if off:
                    self._fleet.halt(instance.id)
                try:
                    self._fleet.capture(instance.id, ami.id)
                    self._fleet.layers.share(ami.id, ami.ebs_snapshot.id)
                    for snapshot, volume_id in sources:
                        self._fleet.volumes.snapshot(volume_id, snapshot.id)
                finally:
                    # Not when it is to end: that waits for its turn, and needs no machine.
                    if off and instance._state.name == "running":
                        self._fleet.resume(instance.id, attachments(instance))
                for snapshot, _ in sources:
                    snapshot.status = "completed"
                ami.state = "available"
        except Exception as error:
            # Not only an Error: whatever it was, an image must not hang in pending.
            log.exception("%s can't be made", ami.id)
            summary = error.summary if isinstance(error, Error) else repr(error)
            ami.state, ami.state_reason = "failed", {"Code": "Server.InternalError", "Message": summary}

    @patch(AmisResponse.copy_image)
    def copy_image(self, response: Any) -> ActionResult:
        """CopyImage: a copy in this region, on the same layers; encryption is recorded.

        The keys of another region encrypt nothing here: a copy is encrypted by the key that the call names, else by
        the account's default one. AWS looks at that key when the call has been answered: without it the copy fails.
        """
        backend, there = response.ec2_backend, source_backend(response)
        source: Any = there.describe_images(ami_ids=[response._get_param("SourceImageId")])[0]
        name, token = str(response._get_param("Name") or source.name), response._get_param("ClientToken")
        if token and (copied := next((one for one in list(backend.amis.values()) if one.client_token == token), None)):
            return ActionResult({"ImageId": copied.id})  # the answer to an earlier attempt was lost
        if there is not backend or name != source.name:
            _check_name(backend, name)
        tags = requested_tags(response, "image", "snapshot")
        if source.state != "available":
            raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is not available")
        wanted, key = response._get_param("Encrypted"), response._get_param("KmsKeyId")
        for each in _snapshots_of(source):
            copied_encryption(backend, there.snapshots[each], wanted, key)
        response.error_on_dryrun()
        ami_id = random_ami_id()
        ami = _NewAmi(
            backend,
            ami_id,
            source_ami=source,
            name=name,
            description=response._get_param("Description") or source.description,
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=source.root_device_name,
            image_location=f"{backend.account_id}/{name}",
            boot_mode=source.boot_mode,
            creation_date=utcnow(),
            imds_support=source.imds_support,
            ena_support=source.ena_support,
            mappings=list(self._copies(backend, source, wanted, key, ami_id)),
            source_image_id=source.id,
            source_image_region=there.region_name,
            client_token=token,
        )
        self._fleet.layers.share(source.id, ami.id)
        backend.amis[ami.id] = ami
        if key and not has_key(backend, key):
            reason = {"Code": "Client.InvalidKmsKey", "Message": f"there is no key {key} in {backend.region_name}"}
            ami.state, ami.state_reason = "failed", reason
        if response._get_param("CopyImageTags", False):
            ami.add_tags({tag["key"]: tag["value"] for tag in source.get_tags() if not tag["key"].startswith("aws:")})
        _add_tags(ami, tags)
        return ActionResult({"ImageId": ami.id})

    def _copies(
        self, backend: Any, source: Any, wanted: bool | None, key: str | None, ami_id: str
    ) -> Iterator[dict[str, Any]]:
        """Yield the mappings of a copied image, whose snapshots are made of the source's."""
        for each in source.block_device_mappings:
            if "SnapshotId" in each["Ebs"]:
                snapshot = source.ec2_backend.snapshots[each["Ebs"]["SnapshotId"]]
                encrypted, by = copied_encryption(backend, snapshot, wanted, key)
                described = f"Copied for DestinationAmi {ami_id} from SourceAmi {source.id} for {snapshot.id}"
                made = self._snapshots.copy(backend, snapshot, described, encrypted, by)
                made.from_ami = ami_id
                each["Ebs"].update(SnapshotId=made.id, Encrypted=encrypted, KmsKeyId=by)
            yield {**each, "Ebs": {name: value for name, value in each["Ebs"].items() if value is not None}}

    @patch(AmisResponse.register_image)
    def register_image(self, response: Any) -> ActionResult:
        """RegisterImage of a root snapshot that an image was made with, or a copy of one.

        No other snapshot holds a root file system here: it can't be registered.
        """
        backend, name = response.ec2_backend, response._get_param("Name")
        _check_name(backend, name)
        tags = requested_tags(response, "image")
        for each in _NOT_HERE:
            if response._get_param(each) is not None:
                raise ApiError("UnsupportedOperation", f"The local cloud registers no image with {each}.")
        device = response._get_param("RootDeviceName")
        mappings = registered(backend, response._get_param("BlockDeviceMappings", []))
        root = next((each["Ebs"].get("SnapshotId") for each in mappings if each["DeviceName"] == device), None)
        if root is None:
            raise ApiError("InvalidBlockDeviceMapping", "No snapshot is mapped to the root device.")
        if not self._fleet.layers.holds(root):
            reason = f"The local cloud boots no image from {root}: it is no root snapshot of an image."
            raise ApiError("UnsupportedOperation", reason)
        support = response._get_param("ImdsSupport")
        if support not in {None, "v2.0"}:
            raise ApiError("InvalidParameterValue", f"Value ({support}) for parameter imdsSupport is invalid.")
        response.error_on_dryrun()
        ami = _NewAmi(
            backend,
            random_ami_id(),
            name=name,
            description=response._get_param("Description", ""),
            # API_RegisterImage: what it is without being told.
            architecture=response._get_param("Architecture") or "i386",
            virtualization_type=response._get_param("VirtualizationType") or "paravirtual",
            ena_support=bool(response._get_param("EnaSupport", False)),
            sriov_net_support=response._get_param("SriovNetSupport"),
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=device,
            image_location=f"{backend.account_id}/{name}",
            imds_support=support,
            boot_mode=None,
            mappings=mappings,
        )
        self._fleet.layers.share(root, ami.id)
        backend.amis[ami.id] = ami
        ami.add_tags(tags["image"])
        return ActionResult({"ImageId": ami.id})


def _snapshots_of(image: Any) -> list[str]:
    return [each["Ebs"]["SnapshotId"] for each in image.block_device_mappings if "SnapshotId" in each["Ebs"]]


def _delete(backend: Any, snapshot_id: str) -> str:
    """Delete a snapshot of an image that is deregistered; return DeregisterImage's word for what became of it."""
    if snapshot_id not in backend.snapshots:
        return "client-error"
    if images_with(backend, snapshot_id):
        return "skipped"
    backend.delete_snapshot(snapshot_id)
    return "success"


def _add_tags(ami: Any, tags: dict[str, dict[str, str]]) -> None:
    """Give a new image and its snapshots the tags that the call has for each."""
    ami.add_tags(tags["image"])
    for snapshot_id in _snapshots_of(ami):
        ami.ec2_backend.snapshots[snapshot_id].add_tags(tags["snapshot"])


def _check_name(backend: Any, name: str | None) -> None:
    if not name:
        raise ApiError("MissingParameter", "The request must contain the parameter name")
    if not _NAME.fullmatch(name):
        raise ApiError(
            "InvalidAMIName.Malformed",
            "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, '(', ')', '.', "
            "'-', '/' and '_'",
        )
    for ami in list(backend.amis.values()):
        if ami.name == name and ami.owner_id == backend.account_id:
            raise ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}")
