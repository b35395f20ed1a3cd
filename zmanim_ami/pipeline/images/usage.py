"""Who uses an image: instances, launch templates, auto scaling groups, and whatever else AWS itself knows of.

An answer that fails counts as use, of every image: what can't be asked is not "nobody". Our own parameters are no use
by others: what they name is kept because it is published, and so long. DescribeImageReferences knows no auto scaling
groups, and of a launch template only the newest versions, unless asked for more; those are asked by their own APIs.
Spot fleets' own launch specifications are asked by nobody.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

from support.errors import Error
from zmanim_ami.pipeline import aws

# As many values as a filter of EC2's takes, and as many images as one question about references does.
_FILTER_VALUES = 200
_REFERENCES = 10
_PAGE = 1000
_AMI_ID = re.compile(r"ami-[0-9a-f]{8,17}")
# How a launch template names a parameter instead of an image.
_RESOLVED = "resolve:ssm:"
_EXISTING = (*aws.ALIVE, "shutting-down")


@dataclass(frozen=True)
class Usage:
    """Who uses images of a region: words such as `instance i-…`, by the image's id.

    `unknown` says what could not be asked; then every image counts as used.
    """

    users: Mapping[str, tuple[str, ...]]
    unknown: tuple[str, ...] = ()

    def of(self, ami_id: str) -> tuple[str, ...]:
        """Return who uses an image, or may do."""
        return (*self.users.get(ami_id, ()), *self.unknown)


def look(clients: aws.Clients, ami_ids: Collection[str], prefix: str) -> Usage:
    """Return who uses these images, in the region of `clients`. Raises nothing: what fails is in the answer."""
    found: dict[str, list[str]] = {}
    unknown: list[str] = []
    questions: Mapping[str, Callable[[], Iterator[tuple[str, str]]]] = {
        "instances": lambda: _instances(clients, ami_ids),
        "launch templates": lambda: _launch_templates(clients, prefix),
        "auto scaling groups": lambda: _auto_scaling(clients),
        "references": lambda: _references(clients, ami_ids, prefix),
    }
    for what, ask in questions.items() if ami_ids else ():
        try:
            with aws.translate_errors(f"asking which {what} use an image"):
                for ami_id, user in ask():
                    if user not in found.setdefault(ami_id, []):
                        found[ami_id].append(user)
        except Error as error:
            unknown.append(f"{what} of {clients.region} could not be asked ({error.found or error.summary})")
    return Usage({ami_id: tuple(users) for ami_id, users in found.items()}, tuple(unknown))


def _instances(clients: aws.Clients, ami_ids: Collection[str]) -> Iterator[tuple[str, str]]:
    for some in _several(sorted(ami_ids), _FILTER_VALUES):
        for each in aws.instances(clients, {"image-id": some, "instance-state-name": _EXISTING}):
            yield each["ImageId"], f"instance {each['InstanceId']}"


def _launch_templates(clients: aws.Clients, prefix: str) -> Iterator[tuple[str, str]]:
    ec2, own = clients.ec2, f"{_RESOLVED}{prefix}/ami-id"
    pages = ec2.get_paginator("describe_launch_templates").paginate(PaginationConfig={"PageSize": 200})
    for template in [each for page in pages for each in page["LaunchTemplates"]]:
        name = template.get("LaunchTemplateId", "")
        # Every version: a group or a person may launch from any.
        versions = ec2.get_paginator("describe_launch_template_versions")
        plain = list(versions.paginate(LaunchTemplateId=name, PaginationConfig={"PageSize": 200}))
        named = {text for page in plain for text in _images_of(page) if text.startswith(_RESOLVED)}
        if named - {own}:  # an older version of a parameter, or a parameter of somebody's own
            plain += versions.paginate(LaunchTemplateId=name, ResolveAlias=True, PaginationConfig={"PageSize": 200})
        for page in plain:
            for text in _images_of(page):
                yield text, f"launch template {template.get('LaunchTemplateName', name)}"


def _images_of(page: Mapping[str, object]) -> set[str]:
    return set(re.findall(rf'"ImageId": "({_RESOLVED}[^"]*|{_AMI_ID.pattern})"', json.dumps(page, default=str)))


def _auto_scaling(clients: aws.Clients) -> Iterator[tuple[str, str]]:
    # Whatever they call it: an override of a policy may name an image as a launch configuration does.
    for operation, member in (
        ("describe_auto_scaling_groups", "AutoScalingGroups"),
        ("describe_launch_configurations", "LaunchConfigurations"),
    ):
        for page in clients.autoscaling.get_paginator(operation).paginate():
            for each in page[member]:
                name = each.get("AutoScalingGroupName") or each.get("LaunchConfigurationName")
                for ami_id in set(_AMI_ID.findall(json.dumps(each, default=str))):
                    yield ami_id, f"auto scaling's {name}"


def _references(clients: aws.Clients, ami_ids: Collection[str], prefix: str) -> Iterator[tuple[str, str]]:
    for some in _several(sorted(ami_ids), _REFERENCES):
        pages = clients.ec2.get_paginator("describe_image_references").paginate(
            ImageIds=list(some), IncludeAllResourceTypes=True
        )
        for each in chain.from_iterable(page["ImageReferences"] for page in pages):
            arn = each.get("Arn", "")
            # Of instances it tells the terminated ones, too; those that are not have been asked for themselves.
            if f":parameter{prefix}/" not in arn and ":instance/" not in arn:
                yield each.get("ImageId", ""), arn


def _several(ami_ids: Sequence[str], most: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(ami_ids), most):
        yield ami_ids[start : start + most]
