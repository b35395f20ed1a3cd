"""What an image's owner changes of it: attributes, whom it is shared with, deprecation, protection, whether it is on.

moto 5.2.5 lacks all but the launch permissions, and lets any image be shared and anybody's be switched off.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.responses import EC2Response
from moto.ec2.responses.amis import AmisResponse

from localcloud.api.patches import ApiError, add, patch
from localcloud.ec2.account_settings import check_shared_image, is_own_key

# How far ahead an image may be deprecated.
_YEARS = 10
_COOLDOWN = timedelta(hours=24)
# The attributes that DescribeImageAttribute shows as one value: the name in its answer, and the image's field.
_VALUES = {
    "description": ("Description", "description"),
    "kernel": ("KernelId", "kernel_id"),
    "ramdisk": ("RamdiskId", "ramdisk_id"),
    "sriovNetSupport": ("SriovNetSupport", "sriov_net_support"),
    "bootMode": ("BootMode", "boot_mode"),
    "tpmSupport": ("TpmSupport", "tpm_support"),
    "uefiData": ("UefiData", "uefi_data"),
    "lastLaunchedTime": ("LastLaunchedTime", "last_launched_time"),
    "imdsSupport": ("ImdsSupport", "imds_support"),
}


def own_image(response: Any) -> Any:
    """Return the account's own image that a call names. Raises ApiError (AuthFailure), moto's InvalidAMIID errors."""
    image = response.ec2_backend.describe_images(ami_ids=[response._get_param("ImageId")])[0]
    if image.owner_id != response.ec2_backend.account_id:
        raise ApiError("AuthFailure", f"Not authorized for image: {image.id}")
    return image


def note_launch(image: Any) -> None:
    """Note that an image was launched: now, which AWS tells with a delay of 24 hours."""
    image.last_launched_time = utcnow().strftime("%Y-%m-%dT%H:%M:%SZ")


def check_deregistration(image: Any) -> None:
    """Refuse to deregister an image that is protected, or was within a day. Raises ApiError (OperationNotPermitted)."""
    if image.deregistration_protection.startswith("enabled"):
        raise ApiError(
            "OperationNotPermitted", f"The image {image.id} is protected from deregistration; disable that first."
        )
    if image.protected_until is not None and utcnow() < image.protected_until:
        raise ApiError(
            "OperationNotPermitted",
            f"The image {image.id} is protected from deregistration until {image.protected_until:%Y-%m-%dT%H:%M:%SZ}: "
            "that was to outlast its protection by 24 hours.",
        )


@patch(AmisResponse.describe_image_attribute)
def describe_image_attribute(response: Any) -> ActionResult:
    """DescribeImageAttribute of an own image."""
    image, attribute = own_image(response), response._get_param("Attribute")
    response.error_on_dryrun()
    shown: dict[str, Any] = {"ImageId": image.id}
    if attribute == "launchPermission":
        shown["LaunchPermissions"] = image.launch_permissions
    elif attribute == "productCodes":
        shown["ProductCodes"] = [
            {"ProductCodeId": code, "ProductCodeType": "marketplace"} for code in image.product_codes
        ]
    elif attribute == "blockDeviceMapping":
        # As AWS has it, whose page says that DescribeImages is to be asked instead.
        raise ApiError("AuthFailure", "Unauthorized attempt to access restricted resource")
    elif attribute in _VALUES:
        name, field = _VALUES[attribute]
        value = getattr(image, field, None)
        shown[name] = {"Value": str(value)} if value is not None else {}
    else:
        raise ApiError("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    return ActionResult(shown)


@patch(AmisResponse.modify_image_attribute)
def modify_image_attribute(response: Any) -> EmptyResult:
    """ModifyImageAttribute: description, IMDS support, launch permissions, all that a call names. Nothing is half done.

    Raises ApiError (InvalidParameter, InvalidParameterValue, OperationNotPermitted, InvalidAMIID.Unavailable).
    """
    image, backend = own_image(response), response.ec2_backend
    attribute, value = response._get_param("Attribute"), response._get_param("Value")
    if attribute not in {None, "description", "imdsSupport", "launchPermission"}:
        raise ApiError("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    changes = {
        "description": (response._get_param("Description") or {}).get("Value"),
        "imds_support": (response._get_param("ImdsSupport") or {}).get("Value"),
    }
    if attribute in {"description", "imdsSupport"}:
        changes["description" if attribute == "description" else "imds_support"] = value
    if changes["imds_support"] not in {None, "v2.0"}:
        requested = changes["imds_support"]
        raise ApiError("InvalidParameterValue", f"Value ({requested}) for parameter imdsSupport is invalid.")
    added, removed = _permissions(response)
    backend.validate_permission_targets([*added, *removed])
    if not added and not removed and all(each is None for each in changes.values()):
        raise ApiError("InvalidParameterCombination", "No attributes specified.")
    if added:
        _check_sharing(backend, image, added)
    response.error_on_dryrun()
    for field, each in changes.items():
        if each is not None:
            setattr(image, field, each)
    image.launch_permissions = [each for each in image.launch_permissions if each not in removed]
    image.launch_permissions += [each for each in added if each not in image.launch_permissions]
    return EmptyResult()


def _check_sharing(backend: Any, image: Any, added: list[dict[str, str]]) -> None:
    if image.state == "disabled":
        raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available")
    encrypted = [each["Ebs"] for each in image.block_device_mappings if each["Ebs"].get("Encrypted")]
    if any(is_own_key(backend, each.get("KmsKeyId")) for each in encrypted):
        reason = "Snapshots encrypted with the AWS Managed CMK can't be shared. Specify another snapshot."
        raise ApiError("InvalidParameter", reason)
    if {"Group": "all"} in added:
        check_shared_image(backend)


def _permissions(response: Any) -> tuple[list[dict[str, str]], list[dict[str, str]]]:
    """Return the launch permissions that a call adds and removes, of both its ways to say so."""
    given, kind = response._get_param("LaunchPermission") or {}, response._get_param("OperationType")
    if kind not in {None, "add", "remove"}:
        raise ApiError("InvalidParameterValue", f"Value ({kind}) for parameter operationType is invalid.")
    names = {
        "UserGroups": "Group",
        "UserIds": "UserId",
        "OrganizationArns": "OrganizationArn",
        "OrganizationalUnitArns": "OrganizationalUnitArn",
    }
    short = [{name: each} for parameter, name in names.items() for each in response._get_param(parameter) or []]
    added = [*(given.get("Add") or []), *(short if kind == "add" else [])]
    removed = [*(given.get("Remove") or []), *(short if kind == "remove" else [])]
    return added, removed


@patch(AmisResponse.reset_image_attribute)
def reset_image_attribute(response: Any) -> EmptyResult:
    """ResetImageAttribute: the owner alone may launch it."""
    image, attribute = own_image(response), response._get_param("Attribute")
    if attribute != "launchPermission":
        raise ApiError("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    response.error_on_dryrun()
    image.launch_permissions = []
    return EmptyResult()


def _made_image(response: Any) -> Any:
    """Return the caller's image that a call names. Raises ApiError while it is being made."""
    image = own_image(response)
    if image.state not in {"available", "disabled"}:
        raise ApiError("InvalidAMIID.Unavailable", f"The image ID '{image.id}' is not available")
    response.error_on_dryrun()
    return image


@patch(AmisResponse.disable_image)
def disable_image(response: Any) -> ActionResult:
    """DisableImage: nobody launches it, or is shared it with, any more."""
    image = _made_image(response)
    image.state, image.launch_permissions = "disabled", []
    return ActionResult({"Return": True})


@patch(AmisResponse.enable_image)
def enable_image(response: Any) -> ActionResult:
    """EnableImage, of one that was disabled; whom it was shared with is not told again."""
    image = _made_image(response)
    image.state = "available"
    return ActionResult({"Return": True})


@add(EC2Response)
def enable_image_deprecation(response: Any) -> ActionResult:
    """EnableImageDeprecation, from a date in the future, at most ten years ahead."""
    image = own_image(response)
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
    image = own_image(response)
    response.error_on_dryrun()
    image.deprecation_time = None
    return ActionResult({"Return": True})


@add(EC2Response)
def enable_image_deregistration_protection(response: Any) -> ActionResult:
    """EnableImageDeregistrationProtection; with its cool-down it outlasts being disabled by 24 hours."""
    image = own_image(response)
    response.error_on_dryrun()
    cooldown = "with" if response._get_param("WithCooldown", False) else "without"
    image.deregistration_protection, image.protected_until = f"enabled-{cooldown}-cooldown", None
    return ActionResult({"Return": image.deregistration_protection})


@add(EC2Response)
def disable_image_deregistration_protection(response: Any) -> ActionResult:
    """DisableImageDeregistrationProtection."""
    image = own_image(response)
    response.error_on_dryrun()
    if image.deregistration_protection == "enabled-with-cooldown":
        image.protected_until = utcnow() + _COOLDOWN
    image.deregistration_protection = "disabled"
    return ActionResult({"Return": "disabled"})
