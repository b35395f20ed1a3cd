"""What an image's owner changes of it: its attributes, whom it is shared with, deprecation, deregistration protection.

moto 5.2.5 lacks all but the launch permissions, and lets any image be shared.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.responses import EC2Response
from moto.ec2.responses.amis import AmisResponse
from moto.ec2.responses.elastic_block_store import ElasticBlockStore
from moto.kms.models import kms_backends

from localcloud.api.patches import ApiError, add, patch

# How far ahead an image may be deprecated.
_YEARS = 10


def own_key(backend: Any) -> str:
    """Return the ARN of the key that AWS itself encrypts volumes with in a region."""
    return str(backend._create_default_encryption_key())


def has_key(backend: Any, key: str) -> bool:
    """Say whether a region has a key of this id, ARN or alias."""
    if ":" in key and f":{backend.region_name}:" not in key:
        return False
    kms = kms_backends[backend.account_id][backend.region_name]
    name = key.rpartition(":")[2].removeprefix("key/")
    return bool(kms.alias_exists(name) if name.startswith("alias/") else name in kms.keys)


def is_own_key(backend: Any, key: str | None) -> bool:
    """Say whether a key, by its id, ARN or alias, is AWS's own."""
    return not key or key.endswith("alias/aws/ebs") or own_key(backend).endswith(key.rpartition("/")[2])


def _own_image(response: Any) -> Any:
    image = response.ec2_backend.describe_images(ami_ids=[response._get_param("ImageId")])[0]
    if image.owner_id != response.ec2_backend.account_id:
        raise ApiError("AuthFailure", f"Not authorized for image: {image.id}")
    return image


@patch(AmisResponse.describe_image_attribute, wraps=True)
def describe_image_attribute(original: Any, response: Any) -> Any:
    """DescribeImageAttribute of an own image, IMDS support included."""
    image = _own_image(response)
    if response._get_param("Attribute") != "imdsSupport":
        return original(response)
    support = {"Value": image.imds_support} if image.imds_support else {}
    return ActionResult({"ImageId": image.id, "ImdsSupport": support})


@patch(AmisResponse.modify_image_attribute, wraps=True)
def modify_image_attribute(original: Any, response: Any) -> Any:
    """ModifyImageAttribute: description and IMDS support, and moto's launch permissions."""
    image = _own_image(response)
    attribute, value = response._get_param("Attribute"), response._get_param("Value")
    description = (response._get_param("Description") or {}).get("Value")
    imds_support = (response._get_param("ImdsSupport") or {}).get("Value")
    response.error_on_dryrun()
    if _shares(response) and image.root_encrypted and is_own_key(response.ec2_backend, image.root_kms_key_id):
        reason = "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot."
        raise ApiError("InvalidParameter", reason)
    if attribute == "description" or description is not None:
        image.description = value if description is None else description
    if attribute == "imdsSupport" or imds_support is not None:
        requested = imds_support or value
        if requested != "v2.0":
            raise ApiError("InvalidParameterValue", f"Value ({requested}) for parameter imdsSupport is invalid.")
        image.imds_support = requested
    if attribute in {None, "launchPermission"} and description is None and imds_support is None:
        return original(response)
    return EmptyResult()


def _shares(response: Any) -> bool:
    added = (response._get_param("LaunchPermission") or {}).get("Add")
    return bool(added) or response._get_param("OperationType") == "add"


@patch(ElasticBlockStore.modify_snapshot_attribute, wraps=True)
def modify_snapshot_attribute(original: Any, response: Any) -> Any:
    """ModifySnapshotAttribute, which shares no snapshot that AWS's own key encrypts."""
    snapshot = response.ec2_backend.get_snapshot(response._get_param("SnapshotId"))
    given = response._get_param("CreateVolumePermission") or {}
    adds = bool(given.get("Add")) or response._get_param("OperationType") == "add"
    if adds and snapshot.encrypted and is_own_key(response.ec2_backend, snapshot.kms_key_id):
        raise ApiError("OperationNotPermitted", "Encrypted snapshots with EBS default key cannot be shared")
    return original(response)


@add(EC2Response)
def enable_image_deprecation(response: Any) -> ActionResult:
    """EnableImageDeprecation, from a date in the future, at most ten years ahead."""
    image = _own_image(response)
    moment = response._get_param("DeprecateAt").replace(tzinfo=None)
    response.error_on_dryrun()
    if moment < utcnow():
        raise ApiError("InvalidParameterValue", "The DeprecateAt date must be in the future.")
    if moment > utcnow() + timedelta(days=_YEARS * 365.25):
        raise ApiError("InvalidParameterValue", f"The DeprecateAt date can't be more than {_YEARS} years from now.")
    # EC2 rounds to the minute.
    image.deprecation_time = moment.strftime("%Y-%m-%dT%H:%M:00.000Z")
    return ActionResult({"Return": True})


@add(EC2Response)
def disable_image_deprecation(response: Any) -> ActionResult:
    """DisableImageDeprecation."""
    _own_image(response).deprecation_time = None
    return ActionResult({"Return": True})


@add(EC2Response)
def enable_image_deregistration_protection(response: Any) -> ActionResult:
    """EnableImageDeregistrationProtection."""
    cooldown = "with" if response._get_param("WithCooldown", False) else "without"
    _own_image(response).deregistration_protection = f"enabled-{cooldown}-cooldown"
    return ActionResult({"Return": "true"})


@add(EC2Response)
def disable_image_deregistration_protection(response: Any) -> ActionResult:
    """DisableImageDeregistrationProtection."""
    _own_image(response).deregistration_protection = "disabled"
    return ActionResult({"Return": "true"})
