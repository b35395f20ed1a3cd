"""EC2 images that hold what was installed: the catalogue, and creating, copying and deregistering over layers.

moto 5.2.5 lacks or drops much of what an image build asks for (snapshot tags, deprecation, deregistration protection,
IMDS support, descriptions, encryption of copies, sizes): those operations are replaced whole.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.utils import random_ami_id

from localcloud.api.patches import ApiError, in_background, patch
from localcloud.ec2.fleet import Fleet
from localcloud.ec2.image_attributes import has_key, own_key
from localcloud.settings import ACCOUNT, BaseImage
from support.errors import Error

log = logging.getLogger(__name__)
# With the fields below, which moto's images lack; each has a default.
_NewAmi: Any = Ami
_FIELDS: dict[str, Any] = {
    "root_size_gib": 8,
    "root_encrypted": False,
    "root_kms_key_id": None,
    "root_volume_type": "gp3",
    "ena_support": True,
    "imds_support": None,
    "deprecation_time": None,
    "deregistration_protection": "disabled",
    "source_image_id": None,
    "source_image_region": None,
    "sriov_net_support": "simple",
}


def base_image_id(name: str, region: str) -> str:
    """Return the id of a base image: the same for a name and region in every cloud."""
    return "ami-" + hashlib.sha256(f"{region}/{name}".encode()).hexdigest()[:17]


def regions() -> list[str]:
    """Return the regions that moto serves, each of which offers the base images."""
    return sorted(ec2_backends[ACCOUNT].regions)


@patch(Ami.__init__, wraps=True)
def initialize(original: Any, ami: Any, *arguments: Any, **given: Any) -> None:
    """Give an image the fields that moto's lack, and its snapshot the size and encryption of its root volume."""
    fields = {name: given.pop(name, default) for name, default in _FIELDS.items()}
    original(ami, *arguments, **given)
    vars(ami).update(fields)
    ami.ebs_snapshot.volume.size = ami.root_size_gib
    ami.ebs_snapshot.encrypted, ami.ebs_snapshot.kms_key_id = ami.root_encrypted, ami.root_kms_key_id


@patch(Ami.block_device_mappings)
def block_device_mappings(ami: Any) -> list[dict[str, Any]]:
    """Return the one mapping that an image has: its root volume's."""
    ebs = {
        "SnapshotId": ami.ebs_snapshot.id,
        "VolumeSize": ami.root_size_gib,
        "DeleteOnTermination": True,
        "VolumeType": ami.root_volume_type,
        "Encrypted": ami.root_encrypted,
    }
    if ami.root_kms_key_id:
        ebs["KmsKeyId"] = ami.root_kms_key_id
    return [{"DeviceName": ami.root_device_name, "Ebs": ebs}]


class Images:
    """moto's images as stacks of layers, with the base images for a catalogue."""

    def __init__(self, fleet: Fleet, base_images: tuple[BaseImage, ...]) -> None:
        self._fleet = fleet
        self._base_images = base_images

    @patch(AmiBackend._load_amis)
    def load_base_images(self, backend: Any) -> None:
        """Offer the base images, and not moto's hundreds that nothing stands behind."""
        for image in self._base_images:
            image_id = base_image_id(image.name, backend.region_name)
            backend.amis[image_id] = _NewAmi(
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

    @patch(AmiBackend.deregister_image, wraps=True)
    def deregister(self, original: Any, backend: Any, ami_id: str) -> None:
        """Drop an own image that is not protected, and the layers that nothing else stands on."""
        ami = backend.amis.get(ami_id)
        if ami is not None and ami.owner_id != backend.account_id:
            raise ApiError("AuthFailure", f"Not authorized for image: {ami_id}")
        if ami is not None and ami.deregistration_protection.startswith("enabled"):
            raise ApiError(
                "OperationNotPermitted", f"The image {ami_id} is protected from deregistration; disable that first."
            )
        original(backend, ami_id)
        in_background(f"deregister {ami_id}", lambda: self._fleet.layers.forget_image(ami_id))

    @patch(AmisResponse.create_image)
    def create_image(self, response: Any) -> ActionResult:
        """CreateImage: stops a running instance and starts it again for it, unless NoReboot.

        The image is `pending` until its layer is there.
        """
        backend, name = response.ec2_backend, response._get_param("Name")
        instance = backend.get_instance(response._get_param("InstanceId"))
        _check_name_is_free(backend, name)
        response.error_on_dryrun()
        if instance._state.name not in {"running", "stopped"}:
            state = instance._state.name
            raise ApiError("IncorrectState", f"The instance {instance.id} is {state}: it must be running or stopped.")
        ami_id = random_ami_id()
        mappings = dict(instance.get_block_device_mapping)
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
            snapshot_description=f"Created by CreateImage({instance.id}) for {ami_id}",
            source_image_id=instance.image_id,
            source_image_region=backend.region_name,
            **_root_fields(backend, mappings.get(instance.root_device_name)),
        )
        backend.amis[ami_id] = ami
        _add_tags(response, ami)
        reboot = not response._get_param("NoReboot", False)
        if instance._state.name == "stopped":
            self._capture(instance, ami, reboot)  # a rename: over before the response is written
        else:
            in_background(f"image {ami_id}", lambda: self._capture(instance, ami, reboot))
        return ActionResult({"ImageId": ami_id})

    def _capture(self, instance: Any, ami: Any, reboot: bool) -> None:
        try:
            with self._fleet.in_turn(instance.id):
                restart = reboot and instance._state.name == "running"
                if restart:
                    self._fleet.halt(instance.id)
                self._fleet.capture(instance.id, ami.id)
                ami.state = "available"
                if restart:
                    instance._state.name = "stopped"
                    instance.start()
        except Error as error:
            log.warning("%s can't be made: %s", ami.id, error)
            ami.state, ami.state_reason = "failed", {"Code": "Server.InternalError", "Message": error.summary}

    @patch(AmisResponse.copy_image)
    def copy_image(self, response: Any) -> ActionResult:
        """CopyImage: a copy in this region, on the same layers; encryption is recorded.

        The keys of another region encrypt nothing here: a copy is encrypted by the key that the call names, else by
        AWS's own one for EBS. AWS looks at that key when the call has been answered: without it the copy fails.
        """
        backend = response.ec2_backend
        source_backend = ec2_backends[response.current_account][response._get_param("SourceRegion")]
        source: Any = source_backend.describe_images(ami_ids=[response._get_param("SourceImageId")])[0]
        name = str(response._get_param("Name") or source.name)
        if source_backend is not backend or name != source.name:
            _check_name_is_free(backend, name)
        response.error_on_dryrun()
        if source.state != "available":
            raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is not available")
        wanted, key = response._get_param("Encrypted"), response._get_param("KmsKeyId")
        if key and not wanted:
            raise ApiError("InvalidParameterDependency", "The parameter KmsKeyId requires the parameter Encrypted.")
        if wanted is False and source.root_encrypted:
            snapshot = source.ebs_snapshot.id
            raise ApiError(
                "InvalidRequest",
                f"Snapshot {snapshot} is encrypted. Creating an unencrypted copy from an encrypted snapshot is not "
                "supported.",
            )
        encrypted = bool(wanted) or source.root_encrypted
        ami = _NewAmi(
            backend,
            random_ami_id(),
            source_ami=source,
            name=name,
            description=response._get_param("Description") or source.description,
            hypervisor="xen",
            root_device_type="ebs",
            root_device_name=source.root_device_name,
            image_location=f"{backend.account_id}/{name}",
            boot_mode=source.boot_mode,
            creation_date=utcnow(),
            snapshot_description=f"Copied for DestinationAmi from SourceAmi {source.id}",
            imds_support=source.imds_support,
            root_size_gib=source.root_size_gib,
            root_volume_type=source.root_volume_type,
            root_encrypted=encrypted,
            root_kms_key_id=key or (own_key(backend) if encrypted else None),
            source_image_id=source.id,
            source_image_region=source.ec2_backend.region_name,
        )
        self._fleet.layers.share(source.id, ami.id)
        backend.amis[ami.id] = ami
        if key and not has_key(backend, key):
            reason = {"Code": "Client.InvalidKmsKey", "Message": f"there is no key {key} in {backend.region_name}"}
            ami.state, ami.state_reason = "failed", reason
        if response._get_param("CopyImageTags", False):
            ami.add_tags({tag["key"]: tag["value"] for tag in source.get_tags() if not tag["key"].startswith("aws:")})
        _add_tags(response, ami)
        return ActionResult({"ImageId": ami.id})


def _add_tags(response: Any, ami: Any) -> None:
    """Give a new image and its snapshot the tags that the call has for each."""
    resources = {"image": ami, "snapshot": ami.ebs_snapshot}
    for specification in response._get_param("TagSpecifications", []):
        if resource := resources.get(specification.get("ResourceType")):
            resource.add_tags({tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags", [])})


def _root_fields(backend: Any, root: Any) -> dict[str, Any]:
    """Return the fields of an image that are its instance's root volume's."""
    if root is None:
        return {}
    volume = backend.get_volume(root.volume_id)
    return {
        "root_size_gib": int(volume.size),
        "root_volume_type": volume.volume_type,
        "root_encrypted": volume.encrypted,
        "root_kms_key_id": volume.kms_key_id,
    }


def _check_name_is_free(backend: Any, name: str | None) -> None:
    if not name:
        raise ApiError("MissingParameter", "The request must contain the parameter name")
    for ami in list(backend.amis.values()):
        if ami.name == name and ami.owner_id == backend.account_id:
            raise ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}")


@patch(AmisResponse.deregister_image)
def deregister_image(response: Any) -> ActionResult:
    """DeregisterImage, with DeleteAssociatedSnapshots."""
    backend, image_id = response.ec2_backend, response._get_param("ImageId")
    response.error_on_dryrun()
    image = backend.amis.get(image_id)
    backend.deregister_image(image_id)
    deleted = []
    if image is not None and response._get_param("DeleteAssociatedSnapshots", False):
        backend.delete_snapshot(image.ebs_snapshot.id)
        deleted = [{"SnapshotId": image.ebs_snapshot.id, "ReturnCode": "success"}]
    return ActionResult({"Return": True, "DeleteSnapshotResults": deleted})


@patch(AmisResponse.describe_images, wraps=True)
def describe_images(original: Any, response: Any) -> ActionResult:
    """DescribeImages, where a deprecated image is hidden from everybody but its owner."""
    images = original(response).result["Images"]
    if not response._get_param("ImageIds", []) and not response._get_param("IncludeDeprecated", False):
        own = response.ec2_backend.account_id
        images = [image for image in images if image.owner_id == own or not _is_deprecated(image)]
    return ActionResult({"Images": images})


def _is_deprecated(image: Any) -> bool:
    return bool(image.deprecation_time) and default_timestamp_parser(image.deprecation_time) < utcnow()
