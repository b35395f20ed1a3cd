"""DescribeImageReferences: which instances, launch templates and parameters of an account name an image."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from moto.core.responses import ActionResult
from moto.ec2.responses import EC2Response
from moto.ssm.models import ssm_backends

from localcloud.api.patches import ApiError, add
from localcloud.ec2.listing import page

Options = Mapping[str, Sequence[str]]
# How many versions of a launch template are looked at, the newest first ("How AMI reference checks work").
_DEPTH = "10"


def _instances(backend: Any, options: Options) -> Iterator[tuple[str, str]]:
    states = options.get("state-name")
    for each in backend.all_instances():
        if not states or each._state.name in states:
            yield each.image_id, f"{_arn(backend, 'ec2')}:instance/{each.id}"


def _templates(backend: Any, options: Options) -> Iterator[tuple[str, str]]:
    depth = int((options.get("version-depth") or [_DEPTH])[0])
    for each in list(backend.launch_templates.values()):
        for version in sorted(each.versions, key=lambda one: -int(one.number))[:depth]:
            yield str(version.data.get("ImageId", "")), f"{_arn(backend, 'ec2')}:launch-template/{each.id}"


def _parameters(backend: Any, _options: Options) -> Iterator[tuple[str, str]]:
    # Those of type aws:ec2:image alone are looked at, as AWS does.
    parameters = ssm_backends[backend.account_id][backend.region_name]._parameters
    for name in [each for each in list(parameters) if not each.startswith("/aws/")]:
        newest = parameters[name][-1]
        if newest.data_type == "aws:ec2:image":
            yield str(newest.value), f"{_arn(backend, 'ssm')}:parameter/{name.lstrip('/')}"


def _none(_backend: Any, _options: Options) -> Iterator[tuple[str, str]]:
    """There is no Image Builder here, and so no recipe."""
    yield from ()


_KINDS: Mapping[str, Callable[[Any, Options], Iterator[tuple[str, str]]]] = {
    "ec2:Instance": _instances,
    "ec2:LaunchTemplate": _templates,
    "ssm:Parameter": _parameters,
    "imagebuilder:ImageRecipe": _none,
    "imagebuilder:ContainerRecipe": _none,
}


@add(EC2Response)
def describe_image_references(response: Any) -> ActionResult:
    """DescribeImageReferences."""
    ids = response._get_param("ImageIds", [])
    given = response._get_param("ResourceTypes", [])
    if not ids:
        raise ApiError("MissingParameter", "The request must contain the parameter ImageIds")
    if not given and not response._get_param("IncludeAllResourceTypes", False):
        reason = "Either IncludeAllResourceTypes or ResourceTypes must be specified."
        raise ApiError("MissingParameter", reason)
    response.error_on_dryrun()
    asked: dict[str, Options] = {kind: {} for kind in _KINDS} if response._get_param("IncludeAllResourceTypes") else {}
    for each in given:
        kind = str(each.get("ResourceType"))
        if kind not in _KINDS:
            raise ApiError("InvalidParameterValue", f"Value ({kind}) for parameter resourceType is invalid.")
        options = each.get("ResourceTypeOptions") or []
        asked[kind] = {str(one.get("OptionName")): one.get("OptionValues") or [] for one in options}
    rows = [
        {"ImageId": image, "ResourceType": kind, "Arn": arn}
        for kind, options in asked.items()
        for image, arn in dict.fromkeys(_KINDS[kind](response.ec2_backend, options))
        if image in ids
    ]
    shown, token = page(response, rows, ids="")
    return ActionResult({"ImageReferences": shown, "NextToken": token})


def _arn(backend: Any, service: str) -> str:
    return f"arn:aws:{service}:{backend.region_name}:{backend.account_id}"
