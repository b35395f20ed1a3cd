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
    "igw": "internet-gateway",
    "rtb": "route-table",
    "key": "key-pair",
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
    action = f"ec2:{operation}"
    if operation.startswith(_READING):
        yield RequiredAction(action)
        return
    tags = _tags_of(given)
    common = _launch_context(given) if operation == "RunInstances" else {}
    direct = requested_tags(listed_tags(given.get("Tags"))) if operation in {"CreateTags", "DeleteTags"} else {}
    named = [text for text in dict.fromkeys(_texts(given)) if text.rpartition("-")[0] in _TYPES]
    for identifier in named:
        # What is copied is where it comes from, and all else where the call goes to.
        where = replace(lookups, region=given["SourceRegion"]) if given.get("SourceRegion") else lookups
        context = {**common, **resource_tags(where.tags(identifier), "ec2"), **direct}
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
    if operation == "DeregisterImage" and given.get("DeleteAssociatedSnapshots"):
        # AWS deregisters nevertheless, and answers `missing-permissions` for the snapshot: here nothing is done.
        for snapshot in lookups.snapshots_of(str(given.get("ImageId"))):
            context = resource_tags(lookups.tags(snapshot), "ec2")
            yield RequiredAction("ec2:DeleteSnapshot", arn(lookups, "snapshot", snapshot), context)
    if operation == "RunInstances":
        profile = given.get("IamInstanceProfile") or {}
        name = str(profile.get("Name") or str(profile.get("Arn", "")).rpartition("/")[2])
        for role in lookups.profile_roles(name) if name else ():
            yield RequiredAction("iam:PassRole", role, {"iam:passedtoservice": ("ec2.amazonaws.com",)})


def arn(lookups: Lookups, kind: str, name: str) -> str:
    """Return the ARN of a resource of EC2."""
    return f"arn:aws:ec2:{lookups.region}:{'' if kind in _OWNERLESS else lookups.account}:{kind}/{name}"


def _tags_of(given: Parameters) -> dict[str, dict[str, str]]:
    tags: dict[str, dict[str, str]] = {}
    for specification in given.get("TagSpecifications") or []:
        kind = str(specification.get("ResourceType", ""))
        tags.setdefault(kind, {}).update(listed_tags(specification.get("Tags")))
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
