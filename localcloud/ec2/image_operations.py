"""The image operations of EC2's API, as an image build calls them, over hooks_images."""

from __future__ import annotations

from typing import Any

from moto.core.parse import default_timestamp_parser
from moto.core.responses import ActionResult, EmptyResult
from moto.core.utils import utcnow
from moto.ec2.models import ec2_backends
from moto.ec2.responses import EC2Response
from moto.ec2.responses.amis import AmisResponse

from localcloud.api.patches import ApiError, add, replace
from localcloud.ec2 import amis as hooks_images
from localcloud.ec2.fleet import Fleet

# Attribute -> name of the field on moto's image.
_ATTRIBUTES = {
    "description": "description",
    "kernel": "kernel_id",
    "sriovNetSupport": "sriov_net_support",
    "bootMode": "boot_mode",
    "imdsSupport": "imds_support",
    "deregistrationProtection": "deregistration_protection",
}


def install(fleet: Fleet) -> None:
    """Replace or add the operations."""
    replace(AmisResponse, "create_image", lambda response: _create_image(response, fleet))
    replace(AmisResponse, "copy_image", lambda response: _copy_image(response, fleet))
    replace(AmisResponse, "deregister_image", _deregister_image)
    replace(AmisResponse, "describe_images", _describe_images)
    replace(AmisResponse, "describe_image_attribute", _describe_image_attribute)
    modify = AmisResponse.modify_image_attribute
    replace(AmisResponse, "modify_image_attribute", lambda response: _modify_image_attribute(response, modify))
    add(EC2Response, "enable_image_deprecation", _enable_deprecation)
    add(EC2Response, "disable_image_deprecation", _disable_deprecation)
    add(EC2Response, "enable_image_deregistration_protection", _enable_protection)
    add(EC2Response, "disable_image_deregistration_protection", _disable_protection)


def _own_image(response: Any) -> Any:
    image = response.ec2_backend.describe_images(ami_ids=[response._get_param("ImageId")])[0]
    if image.owner_id != response.ec2_backend.account_id:
        raise ApiError("AuthFailure", f"Not authorized for image: {image.id}")
    return image


def _tags(response: Any, resource_type: str) -> dict[str, str]:
    return {
        tag["Key"]: tag.get("Value", "")
        for specification in response._get_param("TagSpecifications", [])
        if specification.get("ResourceType") == resource_type
        for tag in specification.get("Tags", [])
    }


def _create_image(response: Any, fleet: Fleet) -> ActionResult:
    backend = response.ec2_backend
    name = response._get_param("Name")
    instance = backend.get_instance(response._get_param("InstanceId"))
    hooks_images.check_name_is_free(backend, name)
    response.error_on_dryrun()
    image = hooks_images.create(
        fleet,
        instance,
        name=name,
        description=response._get_param("Description", ""),
        no_reboot=bool(response._get_param("NoReboot", False)),
    )
    image.add_tags(_tags(response, "image"))
    image.ebs_snapshot.add_tags(_tags(response, "snapshot"))
    return ActionResult({"ImageId": image.id})


def _copy_image(response: Any, fleet: Fleet) -> ActionResult:
    backend = response.ec2_backend
    source_backend = ec2_backends[response.current_account][response._get_param("SourceRegion")]
    source = source_backend.describe_images(ami_ids=[response._get_param("SourceImageId")])[0]
    name = str(response._get_param("Name") or source.name)
    if source_backend is not backend or name != source.name:
        hooks_images.check_name_is_free(backend, name)
    response.error_on_dryrun()
    image = hooks_images.copy(
        fleet,
        backend,
        source,
        name=name,
        description=response._get_param("Description"),
        encrypted=bool(response._get_param("Encrypted", False)),
        kms_key_id=response._get_param("KmsKeyId"),
    )
    if response._get_param("CopyImageTags", False):
        image.add_tags({tag["key"]: tag["value"] for tag in source.get_tags() if not tag["key"].startswith("aws:")})
    image.add_tags(_tags(response, "image"))
    image.ebs_snapshot.add_tags(_tags(response, "snapshot"))
    return ActionResult({"ImageId": image.id})


def _deregister_image(response: Any) -> ActionResult:
    backend, image_id = response.ec2_backend, response._get_param("ImageId")
    response.error_on_dryrun()
    image = backend.amis.get(image_id)
    backend.deregister_image(image_id)
    deleted = []
    if image is not None and response._get_param("DeleteAssociatedSnapshots", False):
        backend.delete_snapshot(image.ebs_snapshot.id)
        deleted = [{"SnapshotId": image.ebs_snapshot.id, "ReturnCode": "success"}]
    return ActionResult({"Return": True, "DeleteSnapshotResults": deleted})


def _describe_images(response: Any) -> ActionResult:
    response.error_on_dryrun()
    backend, ids = response.ec2_backend, response._get_param("ImageIds", [])
    images = backend.describe_images(
        ami_ids=ids,
        filters=response._filters_from_querystring(),
        exec_users=response._get_param("ExecutableUsers", []),
        owners=response._get_param("Owners", []),
    )
    if not ids and not response._get_param("IncludeDeprecated", False):
        # A deprecated image is hidden from everybody but its owner.
        images = [image for image in images if image.owner_id == backend.account_id or not _deprecated(image)]
    return ActionResult({"Images": images})


def _deprecated(image: Any) -> bool:
    return bool(image.deprecation_time) and default_timestamp_parser(image.deprecation_time) < utcnow()


def _describe_image_attribute(response: Any) -> ActionResult:
    image = _own_image(response)
    attribute = response._get_param("Attribute")
    result: dict[str, Any] = {"ImageId": image.id}
    if attribute == "launchPermission":
        result["LaunchPermissions"] = image.launch_permissions
    elif attribute == "productCodes":
        result["ProductCodes"] = []
    elif attribute == "blockDeviceMapping":
        # As on AWS: https://github.com/aws/aws-cli/issues/1083
        raise ApiError("AuthFailure", "Unauthorized attempt to access restricted resource")
    elif attribute in _ATTRIBUTES:
        name = {"kernel": "KernelId"}.get(attribute, attribute[0].upper() + attribute[1:])
        value = getattr(image, _ATTRIBUTES[attribute])
        result[name] = {} if value is None else {"Value": value}
    else:
        raise ApiError("InvalidParameterValue", f"Value ({attribute}) for parameter attribute is invalid.")
    return ActionResult(result)


def _modify_image_attribute(response: Any, modify_permissions: Any) -> Any:
    image = _own_image(response)
    attribute, value = response._get_param("Attribute"), response._get_param("Value")
    description = (response._get_param("Description") or {}).get("Value")
    imds_support = (response._get_param("ImdsSupport") or {}).get("Value")
    response.error_on_dryrun()
    if attribute == "description" or description is not None:
        image.description = value if description is None else description
    if attribute == "imdsSupport" or imds_support is not None:
        wanted = imds_support or value
        if wanted != "v2.0":
            raise ApiError("InvalidParameterValue", f"Value ({wanted}) for parameter imdsSupport is invalid.")
        image.imds_support = wanted
    if attribute in {None, "launchPermission"} and description is None and imds_support is None:
        return modify_permissions(response)
    return EmptyResult()


def _enable_deprecation(response: Any) -> ActionResult:
    image = _own_image(response)
    moment = response._get_param("DeprecateAt")
    response.error_on_dryrun()
    if isinstance(moment, str):
        moment = default_timestamp_parser(moment)
    moment = moment.replace(tzinfo=None)
    if moment < utcnow():
        raise ApiError("InvalidParameter", "The deprecation date must be in the future.")
    # EC2 rounds to the minute.
    image.deprecation_time = moment.strftime("%Y-%m-%dT%H:%M:00.000Z")
    return ActionResult({"Return": True})


def _disable_deprecation(response: Any) -> ActionResult:
    _own_image(response).deprecation_time = None
    return ActionResult({"Return": True})


def _enable_protection(response: Any) -> ActionResult:
    image = _own_image(response)
    cooldown = bool(response._get_param("WithCooldown", False))
    image.deregistration_protection = "enabled-with-cooldown" if cooldown else "enabled-without-cooldown"
    return ActionResult({"Return": "true"})


def _disable_protection(response: Any) -> ActionResult:
    _own_image(response).deregistration_protection = "disabled"
    return ActionResult({"Return": "true"})
