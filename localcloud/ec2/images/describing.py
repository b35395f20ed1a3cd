"""DescribeImages: owners, who may launch, deprecated and disabled ones, every filter, pages."""

from __future__ import annotations

from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.ec2.exceptions import InvalidAMIIdError
from moto.ec2.models.amis import AmiBackend
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.utils import format_timestamp

from localcloud.api.patches import patch
from localcloud.ec2.listing import matching, page


def _of_volumes(member: str) -> Any:
    return lambda image: [each.get("Ebs", {}).get(member) for each in image.block_device_mappings]


def _attribute(name: str) -> Any:
    return lambda image: getattr(image, name, None)


_FILTERS = {
    "architecture": _attribute("architecture"),
    "block-device-mapping.delete-on-termination": _of_volumes("DeleteOnTermination"),
    "block-device-mapping.device-name": lambda image: [each["DeviceName"] for each in image.block_device_mappings],
    "block-device-mapping.encrypted": _of_volumes("Encrypted"),
    "block-device-mapping.snapshot-id": _of_volumes("SnapshotId"),
    "block-device-mapping.volume-size": _of_volumes("VolumeSize"),
    "block-device-mapping.volume-type": _of_volumes("VolumeType"),
    "creation-date": lambda image: format_timestamp(image.creation_date),
    "description": _attribute("description"),
    "ena-support": lambda image: bool(image.ena_support),
    "free-tier-eligible": lambda _image: False,
    "hypervisor": _attribute("hypervisor"),
    "image-allowed": lambda _image: True,
    "image-id": _attribute("id"),
    "image-type": _attribute("image_type"),
    "is-public": _attribute("is_public"),
    "kernel-id": _attribute("kernel_id"),
    "manifest-location": _attribute("image_location"),
    "name": _attribute("name"),
    "owner-alias": _attribute("owner_alias"),
    "owner-id": _attribute("owner_id"),
    "platform": _attribute("platform"),
    "product-code": lambda image: list(image.product_codes),
    "product-code.type": lambda image: "marketplace" if image.product_codes else None,
    "ramdisk-id": lambda _image: None,
    "root-device-name": _attribute("root_device_name"),
    "root-device-type": _attribute("root_device_type"),
    "source-image-id": _attribute("source_image_id"),
    "source-image-region": _attribute("source_image_region"),
    "source-instance-id": _attribute("source_instance_id"),
    "sriov-net-support": _attribute("sriov_net_support"),
    "state": _attribute("state"),
    "state-reason-code": lambda image: (getattr(image, "state_reason", None) or {}).get("Code"),
    "state-reason-message": lambda image: (getattr(image, "state_reason", None) or {}).get("Message"),
    "virtualization-type": _attribute("virtualization_type"),
}


@patch(AmiBackend.describe_images, wraps=True)
def find_images(original: Any, backend: Any, ami_ids: list[str] | None = None, **given: Any) -> list[Any]:
    """Return images; one that was deregistered is as unknown as one that never was (moto: no image, and no error)."""
    missing = [each for each in ami_ids or [] if each.startswith("ami-") and each not in backend.amis]
    if missing and all(each.startswith("ami-") for each in ami_ids or []):
        raise InvalidAMIIdError(missing)
    found: list[Any] = original(backend, ami_ids=ami_ids, **given)
    return found


@patch(AmisResponse.describe_images)
def describe_images(response: Any) -> ActionResult:
    """DescribeImages. Deprecated images are hidden from all but their owner, disabled ones from everybody."""
    backend, ids = response.ec2_backend, response._get_param("ImageIds", [])
    response.error_on_dryrun()
    own = backend.account_id
    owners = {own if each == "self" else each for each in response._get_param("Owners", [])}
    users = {own if each == "self" else each for each in response._get_param("ExecutableUsers", [])}
    deprecated, disabled = response._get_param("IncludeDeprecated"), response._get_param("IncludeDisabled")
    rows = [
        each
        for each in (backend.describe_images(ami_ids=ids) if ids else list(backend.amis.values()))
        if (not owners or owners & {each.owner_id, each.owner_alias})
        and (not users or users & _launchers(each))
        and (deprecated or ids or each.owner_id == own or not _is_deprecated(each))
        and (disabled or each.state != "disabled")
    ]
    rows = matching(rows, response._get_param("Filters", []), _FILTERS)
    shown, token = page(response, rows, ids="ImageIds")
    return ActionResult({"Images": shown, "NextToken": token})


def _launchers(image: Any) -> set[str]:
    """Return who was given the right to launch: `all`, or accounts; an owner has it without being given it."""
    return {str(each.get("UserId") or each.get("Group")) for each in image.launch_permissions}


def _is_deprecated(image: Any) -> bool:
    return bool(image.deprecation_time) and default_timestamp_parser(image.deprecation_time) < utcnow()
