"""EC2 images that hold what was installed: the catalogue, and creating, copying and deregistering over layers.

moto 5.2.5 lacks or drops much of what an image build asks for (snapshot tags, deprecation, deregistration protection,
IMDS support, descriptions, encryption of copies, sizes): those operations are replaced whole.
"""

from __future__ import annotations

import hashlib
import logging
from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.models.amis import Ami, AmiBackend
from moto.ec2.utils import random_ami_id

from localcloud.api.patches import ApiError, in_background, replace
from localcloud.ec2.fleet import Fleet
from localcloud.settings import ACCOUNT, BaseImage
from support.errors import Error

log = logging.getLogger(__name__)


def base_image_id(name: str, region: str) -> str:
    """Return the id of a base image: the same for a name and region in every cloud."""
    return "ami-" + hashlib.sha256(f"{region}/{name}".encode()).hexdigest()[:17]


def regions() -> list[str]:
    """Return the regions that moto serves, each of which offers the base images."""
    return sorted(ec2_backends[ACCOUNT].regions)


def install(fleet: Fleet, images: tuple[BaseImage, ...]) -> None:
    """Replace moto's catalogue by the base images, and its images by layers."""

    def load(backend: Any) -> None:
        for image in images:
            image_id = base_image_id(image.name, backend.region_name)
            backend.amis[image_id] = _base(backend, image_id, image)

    deregister = AmiBackend.deregister_image

    def forget(backend: Any, ami_id: str) -> None:
        ami = backend.amis.get(ami_id)
        if ami is not None and ami.owner_id != backend.account_id:
            raise ApiError("AuthFailure", f"Not authorized for image: {ami_id}")
        if ami is not None and ami.deregistration_protection.startswith("enabled"):
            raise ApiError(
                "OperationNotPermitted", f"The image {ami_id} is protected from deregistration; disable that first."
            )
        deregister(backend, ami_id)
        in_background(f"deregister {ami_id}", lambda: fleet.layers.forget_image(ami_id))

    replace(AmiBackend, "_load_amis", load)
    replace(AmiBackend, "deregister_image", forget)
    replace(Ami, "block_device_mappings", property(_mappings))
    # Defaults for images that moto makes in other ways; those made here set their own.
    for name, value in _DEFAULTS.items():
        setattr(Ami, name, value)


_DEFAULTS: dict[str, Any] = {
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


def _mappings(image: Any) -> list[dict[str, Any]]:
    ebs = {
        "SnapshotId": image.ebs_snapshot.id,
        "VolumeSize": image.root_size_gib,
        "DeleteOnTermination": True,
        "VolumeType": image.root_volume_type,
        "Encrypted": image.root_encrypted,
    }
    if image.root_kms_key_id:
        ebs["KmsKeyId"] = image.root_kms_key_id
    return [{"DeviceName": image.root_device_name, "Ebs": ebs}]


def _base(backend: Any, image_id: str, image: BaseImage) -> Any:
    ami: Any = Ami(
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
    )
    _size(ami, image.root_size_gib)
    ami.imds_support = "v2.0"
    return ami


def _size(ami: Any, gib: int) -> None:
    ami.root_size_gib = gib
    ami.ebs_snapshot.volume.size = gib


def check_name_is_free(backend: Any, name: str | None) -> None:
    """Refuse a missing name and one that an image of this account has. Raises ApiError."""
    if not name:
        raise ApiError("MissingParameter", "The request must contain the parameter name")
    for ami in list(backend.amis.values()):
        if ami.name == name and ami.owner_id == backend.account_id:
            raise ApiError("InvalidAMIName.Duplicate", f"AMI name {name} is already in use by AMI {ami.id}")


def create(fleet: Fleet, instance: Any, *, name: str, description: str, no_reboot: bool) -> Any:
    """Make an image of an instance; a running one is stopped and started again for it unless `no_reboot`.

    The image is `pending` until its layer is there.
    """
    if instance._state.name not in {"running", "stopped"}:
        raise ApiError(
            "IncorrectState", f"The instance {instance.id} is {instance._state.name}: it must be running or stopped."
        )
    backend = instance.ec2_backend
    ami_id = random_ami_id()
    ami: Any = Ami(
        backend,
        ami_id,
        instance=instance,
        name=name,
        description=description,
        state="pending",
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name=instance.root_device_name,
        image_location=f"{backend.account_id}/{name}",
        snapshot_description=f"Created by CreateImage({instance.id}) for {ami_id}",
    )
    root = next(
        (item for device, item in instance.get_block_device_mapping if device == instance.root_device_name), None
    )
    if root is not None:
        volume = backend.get_volume(root.volume_id)
        _size(ami, int(volume.size))
        ami.root_volume_type = volume.volume_type
        ami.root_encrypted, ami.root_kms_key_id = volume.encrypted, volume.kms_key_id
        ami.ebs_snapshot.encrypted, ami.ebs_snapshot.kms_key_id = volume.encrypted, volume.kms_key_id
    ami.source_image_id, ami.source_image_region = instance.image_id, backend.region_name
    backend.amis[ami_id] = ami

    def work() -> None:
        try:
            with fleet.in_turn(instance.id):
                restart = instance._state.name == "running" and not no_reboot
                if restart:
                    fleet.halt(instance.id)
                fleet.capture(instance.id, ami_id)
                ami.state = "available"
                if restart:
                    instance._state.name = "stopped"
                    instance.start()
        except Error as fault:
            log.warning("%s can't be made: %s", ami_id, fault)
            ami.state, ami.state_reason = "failed", {"Code": "Server.InternalError", "Message": fault.summary}

    if instance._state.name == "stopped":
        work()  # a rename: over before the answer is written
    else:
        in_background(f"image {ami_id}", work)
    return ami


def copy(
    fleet: Fleet,
    backend: Any,
    source: Any,
    *,
    name: str,
    description: str | None,
    encrypted: bool,
    kms_key_id: str | None,
) -> Any:
    """Make a copy of an image in the region of `backend`, on the same layers; encryption is recorded."""
    if source.state != "available":
        raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{source.id}' is not available")
    ami: Any = Ami(
        backend,
        random_ami_id(),
        source_ami=source,
        name=name,
        description=description or source.description,
        hypervisor="xen",
        root_device_type="ebs",
        root_device_name=source.root_device_name,
        image_location=f"{backend.account_id}/{name}",
        boot_mode=source.boot_mode,
        creation_date=utcnow(),
        snapshot_description=f"Copied for DestinationAmi from SourceAmi {source.id}",
    )
    _size(ami, source.root_size_gib)
    ami.imds_support = source.imds_support
    ami.root_volume_type = source.root_volume_type
    ami.root_encrypted = encrypted or source.root_encrypted
    if ami.root_encrypted:
        ami.root_kms_key_id = kms_key_id or source.root_kms_key_id or backend._create_default_encryption_key()
    ami.ebs_snapshot.encrypted, ami.ebs_snapshot.kms_key_id = ami.root_encrypted, ami.root_kms_key_id
    ami.source_image_id, ami.source_image_region = source.id, source.ec2_backend.region_name
    fleet.layers.share(source.id, ami.id)
    backend.amis[ami.id] = ami
    return ami
