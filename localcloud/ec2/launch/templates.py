"""What a launch asks for in the end: its request over its launch template's version, its image's id looked up in SSM.

moto takes five parameters of a template (image, type, key pair, user data, groups) and drops the others, takes the
default version whatever a group says, and does not know `resolve:ssm:`.
"""

from __future__ import annotations

from typing import Any

from moto.core.exceptions import ServiceException
from moto.ec2.exceptions import (
    InvalidLaunchTemplateIdNotFound,
    InvalidLaunchTemplateNameNotFoundWithNameError,
    InvalidLaunchTemplateVersionNotFound,
)
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.models.launch_templates import LaunchTemplate, LaunchTemplateBackend
from moto.ec2.responses.launch_templates import LaunchTemplates
from moto.ec2.utils import parse_user_data
from moto.ssm.models import ssm_backends

from localcloud.api.patches import ApiError, patch

Request = dict[str, Any]
_RESOLVE = "resolve:ssm:"
# A launch that names one of a structure's members leaves the others to the template.
_OVERLAID = {"CreditSpecification", "HibernationOptions", "MetadataOptions", "Monitoring", "Placement"}
# Where clients send an empty text for what they don't ask for (Packer does).
_MAY_BE_EMPTY = {"IamInstanceProfile", "Placement"}


def settle(backend: Any, request: Request) -> Request:
    """Return a request of RunInstances with all that its launch template adds, and its image by its id.

    Raises ApiError, or moto's errors of launch templates.
    """
    request = with_template(backend, request)
    if name := parameter_of(request):
        request["ImageId"] = _resolved(backend, name)
    return request


def with_template(backend: Any, request: Request) -> Request:
    """Return a request of RunInstances with all that its launch template adds. Raises ApiError, or moto's errors."""
    request = _without_empty(request)
    if template := request.pop("LaunchTemplate", None):
        request = overlaid(_template_data(backend, template), request)
    return request


def parameter_of(request: Request) -> str:
    """Return the name of the parameter of SSM that a launch finds its image by, "" when it names the image."""
    image = str(request.get("ImageId", ""))
    return image.removeprefix(_RESOLVE) if image.startswith(_RESOLVE) else ""


def overlaid(below: Request, above: Request) -> Request:
    """Return a template's data with a launch's (or an override's) over it."""
    merged = {**below, **above}
    for name in _OVERLAID & below.keys() & above.keys():
        merged[name] = {**below[name], **above[name]}
    merged["BlockDeviceMappings"] = _by_device(below, above)
    merged["TagSpecifications"] = _by_resource(below, above)
    return {name: value for name, value in merged.items() if value not in (None, [], {})}


def template_of(backend: Any, named: dict[str, Any]) -> Any:
    """Return the launch template that a request names by its id or its name. Raises ApiError or moto's errors."""
    template_id, name = named.get("LaunchTemplateId"), named.get("LaunchTemplateName")
    if template_id and name:
        raise ApiError("InvalidParameterCombination", "You can specify a launch template's ID or its name, not both.")
    if not template_id and not name:
        raise ApiError("MissingParameter", "The request must contain the parameter LaunchTemplateId")
    template_id = template_id or backend.launch_template_name_to_ids.get(name)
    template = backend.launch_templates.get(template_id)
    if template is None:
        raise (InvalidLaunchTemplateNameNotFoundWithNameError(name) if name else
               InvalidLaunchTemplateIdNotFound(template_id))  # fmt: skip
    return template


def _template_data(backend: Any, named: dict[str, Any]) -> Request:
    template = template_of(backend, named)
    version = template.get_version(named.get("Version") or "$Default")
    own = {"aws:ec2launchtemplate:id": template.id, "aws:ec2launchtemplate:version": str(version.number)}
    tags = [{"ResourceType": "instance", "Tags": [{"Key": key, "Value": value} for key, value in own.items()]}]
    # moto adds the template's own tags to its data.
    data = version.data.get("TagSpecifications") or []
    launched = [each for each in data if each.get("ResourceType") != "launch-template"]
    return overlaid({**version.data, "TagSpecifications": launched}, {"TagSpecifications": tags})


@patch(LaunchTemplateBackend.describe_launch_templates, wraps=True)
def describe_launch_templates(
    original: Any, backend: Any, template_names: Any = None, template_ids: Any = None, filters: Any = None
) -> Any:
    """Return launch templates; moto leaves those out that are named by an id and don't exist."""
    for each in template_ids or []:
        if each not in backend.launch_templates:
            raise InvalidLaunchTemplateIdNotFound(each)
    return original(backend, template_names, template_ids, filters)


@patch(LaunchTemplate.get_version)
def get_version(template: Any, number: Any) -> Any:
    """Return a version by its number, $Latest or $Default; moto takes 0 for the last one."""
    named = {"$latest": template.latest_version_number, "$default": template.default_version_number}
    wanted = str(named.get(str(number).lower(), number))
    version = next((each for each in template.versions if str(each.number) == wanted), None)
    if version is None:
        raise InvalidLaunchTemplateVersionNotFound(template_id=template.id, version=str(number))
    return version


@patch(LaunchTemplates.create_launch_template_version, wraps=True)
def create_launch_template_version(original: Any, response: Any) -> Any:
    """CreateLaunchTemplateVersion, on top of a SourceVersion when it names one."""
    backend = response.ec2_backend
    given = {"LaunchTemplateId": response._get_param("LaunchTemplateId"),
             "LaunchTemplateName": response._get_param("LaunchTemplateName")}  # fmt: skip
    template = template_of(backend, given)
    data = response._get_param("LaunchTemplateData", {})
    if "UserData" in data:
        data = {**data, "UserData": parse_user_data(data["UserData"])}
    if source := response._get_param("SourceVersion"):
        # AWS replaces what the new data names and keeps the rest.
        data = {**template.get_version(source).data, **data}
    response.params = {**response.params, "LaunchTemplateData": data}
    return original(response)


def _resolved(backend: Any, name: str) -> str:
    """Return the image that a parameter names: NAME, NAME:VERSION or NAME:LABEL.

    EC2 takes parameters of the data type aws:ec2:image alone:
    https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-systems-manager-parameter-to-find-AMI.html
    """
    try:
        parameter = ssm_backends[backend.account_id][backend.region_name].get_parameter(name)
    except ServiceException:
        parameter = None  # it has no such version or label
    if parameter is None:
        raise ApiError("SsmInvalidParameter", f"The following aliases are invalid: {name}")
    # Amazon's own have that type on AWS, and moto says `text` of them.
    if parameter.data_type != "aws:ec2:image" and not name.startswith("/aws/service/"):
        raise ApiError(
            "SsmInvalidParameter",
            "Unsupported data type. The following parameter data types are supported: aws:ec2:image",
        )
    return str(parameter.value)


def fitting_type(backend: Any, image_id: str, wanted: dict[str, Any]) -> str:
    """Return the smallest instance type that fits InstanceRequirements, and an image's architecture.

    Raises ApiError (InvalidParameterValue) when there is none.
    """
    image = backend.describe_images(ami_ids=[image_id])[0]
    fitting = [
        (details["MemoryInfo"]["SizeInMiB"], name)
        for name, details in INSTANCE_TYPES.items()
        if image.architecture in details["ProcessorInfo"]["SupportedArchitectures"]
        and _within(details["MemoryInfo"]["SizeInMiB"], wanted.get("MemoryMiB"))
        and _within(details["VCpuInfo"]["DefaultVCpus"], wanted.get("VCpuCount"))
        and details["CurrentGeneration"]
        and not details["BareMetal"]
    ]
    if not fitting:
        raise ApiError("InvalidParameterValue", "No instance types match the specified instance requirements.")
    return min(fitting)[1]


def _within(value: int, limits: dict[str, Any] | None) -> bool:
    limits = limits or {}
    return int(limits.get("Min") or 0) <= value <= int(limits.get("Max") or value)


def _without_empty(request: Request) -> Request:
    request = {name: value for name, value in request.items() if value not in ("", None)}
    for name in _MAY_BE_EMPTY & request.keys():
        request[name] = {key: value for key, value in request[name].items() if value != ""}
    return {name: value for name, value in request.items() if value not in ([], {})}


def _by_device(below: Request, above: Request) -> list[dict[str, Any]]:
    mappings: dict[Any, dict[str, Any]] = {}
    for mapping in [*(below.get("BlockDeviceMappings") or []), *(above.get("BlockDeviceMappings") or [])]:
        # One without a name stays: it is refused later.
        key = mapping.get("DeviceName") or id(mapping)
        earlier = mappings.get(key, {})
        both = "Ebs" in earlier and "Ebs" in mapping
        mappings[key] = {**mapping, "Ebs": {**earlier["Ebs"], **mapping["Ebs"]}} if both else mapping
    return list(mappings.values())


def _by_resource(below: Request, above: Request) -> list[dict[str, Any]]:
    tags: dict[str, dict[str, str]] = {}
    for specification in [*(below.get("TagSpecifications") or []), *(above.get("TagSpecifications") or [])]:
        own = tags.setdefault(specification.get("ResourceType", ""), {})
        own.update({tag["Key"]: tag.get("Value", "") for tag in specification.get("Tags") or []})
    return [
        {"ResourceType": kind, "Tags": [{"Key": key, "Value": value} for key, value in own.items()]}
        for kind, own in tags.items()
    ]
