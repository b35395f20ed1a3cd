"""The actions of a call to EC2: on resources that it names or creates, on their tags, on the role it passes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from localcloud.iam.actions import Context, Parameters, RequiredAction, listed_tags, requested_tags, resource_tags
from localcloud.iam.lookups import Lookups

# The prefix of an id -> the type in its ARN.
_TYPES = {
    "i": "instance",
    "vol": "volume",
    "ami": "image",
    "snap": "snapshot",
    "sg": "security-group",
    "subnet": "subnet",
    "vpc": "vpc",
    "eni": "network-interface",
    "eipalloc": "elastic-ip",
    "igw": "internet-gateway",
    "rtb": "route-table",
    "key": "key-pair",
    "lt": "launch-template",
}
# Images and snapshots belong to no account in their ARNs.
_OWNERLESS = {"image", "snapshot"}
# What operations create; it has no id yet.
_CREATED = {
    "RunInstances": ("instance", "volume", "network-interface"),
    "CreateImage": ("image", "snapshot"),
    "CopyImage": ("image", "snapshot"),
    "RegisterImage": ("image",),
    "CreateSnapshot": ("snapshot",),
    "CreateSnapshots": ("snapshot",),
    "CopySnapshot": ("snapshot",),
    "CreateVolume": ("volume",),
    "CreateSecurityGroup": ("security-group",),
    "AllocateAddress": ("elastic-ip",),
    "CreateKeyPair": ("key-pair",),
    "ImportKeyPair": ("key-pair",),
    "CreateVpc": ("vpc",),
    "CreateSubnet": ("subnet",),
    "CreateInternetGateway": ("internet-gateway",),
}
# What an operation uses even where it is not named: AWS takes the account's default one.
_DEFAULT = {"RunInstances": "subnet", "CreateSecurityGroup": "vpc"}
# Operations that only look know no resources; GetConsoleOutput and the like do.
_READING = ("Describe", "List")
# Parameters whose texts are no ids, whatever they look like.
_FREE_TEXT = {"TagSpecifications", "Tags", "ClientToken", "UserData", "Description", "Name"}


def ec2(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call."""
    if operation.startswith(_READING):
        yield RequiredAction(f"ec2:{operation}")
    elif operation == "RunInstances":
        yield from _launch(given, lookups)
    else:
        yield from _on_resources(operation, given, lookups)
    if operation == "DeregisterImage" and given.get("DeleteAssociatedSnapshots"):
        # AWS deregisters nevertheless, and answers `missing-permissions` for the snapshot: here nothing is done.
        for snapshot in lookups.snapshots_of(str(given.get("ImageId"))):
            context = resource_tags(lookups.tags(snapshot), "ec2")
            yield RequiredAction("ec2:DeleteSnapshot", arn(lookups, "snapshot", snapshot), context)
    if operation == "RequestSpotInstances":
        yield from _passed(given.get("LaunchSpecification") or {}, lookups)
    if operation == "CreateFleet":
        for configuration in given.get("LaunchTemplateConfigs") or []:
            template = configuration.get("LaunchTemplateSpecification") or {}
            yield from _launches(template, configuration.get("Overrides"), lookups)


def _launch(given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a launch, with all that its template adds."""
    launch, parameter = lookups.launch(given)
    if identifier := lookups.template_id(given.get("LaunchTemplate") or {}):
        context = {**_launch_context(launch), **resource_tags(lookups.tags(identifier), "ec2")}
        yield RequiredAction("ec2:RunInstances", arn(lookups, "launch-template", identifier), context)
    if parameter:
        yield _parameter(parameter, lookups)
    yield from _on_resources("RunInstances", launch, lookups)
    yield from _passed(launch, lookups)


def _launches(template: Parameters, overrides: Any, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of what a fleet or a group launches by a template, each with an override."""
    for override in overrides or [{}]:
        own = {name: override[name] for name in ("ImageId", "InstanceType", "SubnetId") if override.get(name)}
        named = override.get("LaunchTemplateSpecification") or template
        yield from _launch({**own, "LaunchTemplate": dict(named)}, lookups)


def _on_resources(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions on the resources that a call names, uses and makes, and on the tags of these."""
    action = f"ec2:{operation}"
    tags = _tags_of(given)
    common = _launch_context(given) if operation == "RunInstances" else {}
    direct = requested_tags(listed_tags(given.get("Tags"))) if operation in {"CreateTags", "DeleteTags"} else {}
    named = [text for text in dict.fromkeys(_texts(given)) if text.rpartition("-")[0] in _TYPES]
    for identifier in named:
        # What is copied is where it comes from, and all else where the call goes to.
        where = replace(lookups, region=given["SourceRegion"]) if given.get("SourceRegion") else lookups
        context = {**common, **resource_tags(where.tags(identifier), "ec2"), **direct}
        if owner := where.owner_of(identifier):
            context["ec2:owner"] = (owner,)
        yield RequiredAction(action, arn(where, _TYPES[identifier.rpartition("-")[0]], identifier), context)
    created = _CREATED.get(operation, ())
    for kind in created:
        # The id of a new resource is not known yet; a key pair's ARN ends in its name.
        name = str(given.get("KeyName") or "*") if kind == "key-pair" else "*"
        yield RequiredAction(action, arn(lookups, kind, name), {**common, **requested_tags(tags.get(kind, {}))})
    default = _DEFAULT.get(operation)
    if default and not any(identifier.startswith(f"{default}-") for identifier in named):
        yield RequiredAction(action, arn(lookups, default, "*"), common)
    if "KeyName" in given and "key-pair" not in created:
        key_pair = str(given["KeyName"])
        key_tags = resource_tags(lookups.tags(lookups.key_pair(key_pair)), "ec2")
        yield RequiredAction(action, arn(lookups, "key-pair", key_pair), {**common, **key_tags})
    if not named and not created and "KeyName" not in given:
        yield RequiredAction(action)
    for kind, requested in tags.items():
        # Tags that come with a launch take CreateTags of that launch.
        if requested and created:
            context = {"ec2:createaction": (operation,), **requested_tags(requested)}
            yield RequiredAction("ec2:CreateTags", arn(lookups, kind, "*"), context)


def autoscaling(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to Auto Scaling, and of the launches that it asks for.

    "Launch template support" (Amazon EC2 Auto Scaling User Guide).
    """
    name = given.get("AutoScalingGroupName")
    group = f"autoScalingGroup:*:autoScalingGroupName/{name}"
    context = requested_tags(listed_tags(given.get("Tags")))
    named = name and not operation.startswith("Describe")
    yield RequiredAction(f"autoscaling:{operation}", lookups.arn("autoscaling", group) if named else "*", context)
    if operation == "CreateLaunchConfiguration" and (profile := str(given.get("IamInstanceProfile") or "")):
        yield from _passed({"IamInstanceProfile": {"Name": profile.rpartition("/")[2]}}, lookups)
    mixed = (given.get("MixedInstancesPolicy") or {}).get("LaunchTemplate") or {}
    template = given.get("LaunchTemplate") or mixed.get("LaunchTemplateSpecification")
    if template:
        yield from _launches(template, mixed.get("Overrides"), lookups)


def _passed(given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield what handing an instance the role of its profile takes."""
    profile = given.get("IamInstanceProfile") or {}
    name = str(profile.get("Name") or str(profile.get("Arn", "")).rpartition("/")[2])
    for role in lookups.profile_roles(name) if name else ():
        yield RequiredAction("iam:PassRole", role, {"iam:passedtoservice": ("ec2.amazonaws.com",)})


def _parameter(name: str, lookups: Lookups) -> RequiredAction:
    """Return what looking an image up in SSM takes; parameters of AWS's own belong to no account."""
    path = name.partition(":")[0].removeprefix("/")
    own = lookups.arn("ssm", f"parameter/{path}")
    public = f"arn:aws:ssm:{lookups.region}::parameter/{path}"
    return RequiredAction("ssm:GetParameters", public if path.startswith("aws/service/") else own)


def arn(lookups: Lookups, kind: str, name: str) -> str:
    """Return the ARN of a resource of EC2."""
    return f"arn:aws:ec2:{lookups.region}:{'' if kind in _OWNERLESS else lookups.account}:{kind}/{name}"


def _tags_of(given: Parameters) -> dict[str, dict[str, str]]:
    tags: dict[str, dict[str, str]] = {}
    for specification in given.get("TagSpecifications") or []:
        kind = str(specification.get("ResourceType", ""))
        # Those that a launch template adds are EC2's own doing.
        own = {key: value for key, value in listed_tags(specification.get("Tags")).items() if key[:4] != "aws:"}
        tags.setdefault(kind, {}).update(own)
    return tags


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    children = [value for name, value in node.items() if name not in _FREE_TEXT] if isinstance(node, dict) else node
    if isinstance(children, list):
        for child in children:
            yield from _texts(child)


def _launch_context(given: Parameters) -> Context:
    context: Context = {"ec2:instancetype": (str(given.get("InstanceType") or "m1.small"),)}
    if tokens := (given.get("MetadataOptions") or {}).get("HttpTokens"):
        context["ec2:metadatahttptokens"] = (str(tokens),)
    if profile := given.get("IamInstanceProfile"):
        context["ec2:instanceprofile"] = (str(profile.get("Arn") or profile.get("Name")),)
    return context
