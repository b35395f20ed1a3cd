"""What a call to EC2 asks of IAM: resources that it names or makes, their tags, the role it hands over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from localcloud.iam.actions import Demand, Parameters, Place, listed_tags, requested_tags, resource_tags

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
# What operations make; it has no id yet.
_MADE = {
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
_IMPLIED = {"RunInstances": "subnet", "CreateSecurityGroup": "vpc"}
# The parameters that name what an operation is about, where others only say what is wanted of it.
_ABOUT = {"CreateTags": ("Resources",), "DeleteTags": ("Resources",)}
# Looks at the account that know no resources; GetConsoleOutput and the like do.
_LOOKS = ("Describe", "List")


def ec2(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call asks for."""
    action = f"ec2:{operation}"
    if operation.startswith(_LOOKS):
        yield Demand(action)
        return
    tags = _tags_of(given)
    common = _launch(given) if operation == "RunInstances" else {}
    named = [identifier for identifier in _identifiers(operation, given) if identifier.rpartition("-")[0] in _TYPES]
    for identifier in dict.fromkeys(named):
        context = {**common, **resource_tags(place.tags(identifier), "ec2"), **_direct_tags(operation, given)}
        yield Demand(action, arn(place, _TYPES[identifier.rpartition("-")[0]], identifier), context)
    made = _MADE.get(operation, ())
    for kind in made:
        # A key pair's and a security group's own ARN end in what its maker can't know, or in the name.
        name = str(given.get("KeyName") or "*") if kind == "key-pair" else "*"
        yield Demand(action, arn(place, kind, name), {**common, **requested_tags(tags.get(kind, {}))})
    implied = _IMPLIED.get(operation)
    if implied and not any(identifier.startswith(f"{implied}-") for identifier in named):
        yield Demand(action, arn(place, implied, "*"), common)
    if "KeyName" in given and "key-pair" not in made:
        key_pair = str(given["KeyName"])
        tags_of_it = resource_tags(place.tags(place.key_pair(key_pair)), "ec2")
        yield Demand(action, arn(place, "key-pair", key_pair), {**common, **tags_of_it})
    if not named and not made and "KeyName" not in given:
        yield Demand(action)
    for kind, asked in tags.items():
        # Tags that come with a launch are asked for as CreateTags of that launch.
        if asked and made:
            context = {"ec2:createaction": (operation,), **requested_tags(asked)}
            yield Demand("ec2:CreateTags", arn(place, kind, "*"), context)
    if operation == "RunInstances":
        yield from _pass_role(given, place)


def arn(place: Place, kind: str, name: str) -> str:
    """Return the ARN of a resource of EC2."""
    return f"arn:aws:ec2:{place.region}:{'' if kind in _OWNERLESS else place.account}:{kind}/{name}"


def _tags_of(given: Parameters) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = {}
    for one in given.get("TagSpecifications") or []:
        found.setdefault(str(one.get("ResourceType", "")), {}).update(listed_tags(one.get("Tags")))
    return found


def _direct_tags(operation: str, given: Parameters) -> dict[str, tuple[str, ...]]:
    return requested_tags(listed_tags(given.get("Tags"))) if operation in _ABOUT else {}


def _identifiers(operation: str, given: Parameters) -> Iterator[str]:
    wanted: Any = {name: given.get(name) for name in _ABOUT[operation]} if operation in _ABOUT else given
    yield from _texts(wanted)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    elif isinstance(node, dict):
        for name, value in node.items():
            if name not in {"TagSpecifications", "Tags", "ClientToken", "UserData", "Description", "Name"}:
                yield from _texts(value)
    elif isinstance(node, list):
        for value in node:
            yield from _texts(value)


def _launch(given: Parameters) -> dict[str, tuple[str, ...]]:
    metadata = given.get("MetadataOptions") or {}
    context: dict[str, tuple[str, ...]] = {"ec2:instancetype": (str(given.get("InstanceType") or "m1.small"),)}
    if tokens := metadata.get("HttpTokens"):
        context["ec2:metadatahttptokens"] = (str(tokens),)
    if profile := given.get("IamInstanceProfile"):
        context["ec2:instanceprofile"] = (str(profile.get("Arn") or profile.get("Name")),)
    return context


def _pass_role(given: Parameters, place: Place) -> Iterator[Demand]:
    profile = given.get("IamInstanceProfile") or {}
    name = str(profile.get("Name") or str(profile.get("Arn", "")).rpartition("/")[2])
    for role in place.profile_roles(name) if name else ():
        yield Demand("iam:PassRole", role, {"iam:passedtoservice": ("ec2.amazonaws.com",)})
