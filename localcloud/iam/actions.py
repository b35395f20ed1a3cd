"""What an API call asks of IAM: actions on resources, with the values of the condition keys that can be known.

The tables follow AWS's "Service Authorization Reference". An operation that has no row asks for the action of its own
name on `*`, as services do that know no resources.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

Parameters = Mapping[str, Any]
Tags = Mapping[str, str]


@dataclass(frozen=True)
class Demand:
    """One action on one resource. `context` holds condition keys in lower case."""

    action: str
    resource: str = "*"
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where a call goes to, and how to look up what is there: a resource's tags, a key pair's id, a KMS key's ARN, …

    Each look-up returns something empty for what does not exist: then the service itself says so. `parameter_keys` are
    the keys of the SecureStrings among the named ones and below a path (unless that is empty).
    """

    region: str
    account: str
    tags: Callable[[str], Tags]
    key_pair: Callable[[str], str]
    key_arn: Callable[[str], str]
    has_object: Callable[[str, str], bool]
    parameter_keys: Callable[[list[str], str], tuple[str, ...]]
    profile_roles: Callable[[str], tuple[str, ...]]
    tagged_instances: Callable[[Mapping[str, list[str]]], tuple[str, ...]]

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN of this region and account."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"


def requested_tags(tags: Tags) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of tags that a call brings."""
    if not tags:
        return {}
    return {"aws:tagkeys": tuple(tags), **{f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}}


def resource_tags(tags: Tags, *services: str) -> dict[str, tuple[str, ...]]:
    """Return the condition keys of tags that a resource has, under `aws` and each service's own name."""
    return {
        f"{service}:resourcetag/{key.lower()}": (value,)
        for service in ("aws", *services)
        for key, value in tags.items()
    }


def listed_tags(raw: Any) -> dict[str, str]:
    """Return the tags of a list of {Key, Value}."""
    return {str(tag.get("Key", "")): str(tag.get("Value", "")) for tag in raw or []}


def ssm(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call to Systems Manager asks for."""
    action = f"ssm:{operation}"
    if operation == "SendCommand":
        document = str(given.get("DocumentName", ""))
        # AWS's own documents belong to no account.
        owner = "" if document.startswith("AWS-") else place.account
        yield Demand(action, f"arn:aws:ssm:{place.region}:{owner}:document/{document}")
        targets = {str(each.get("Key", "")): list(each.get("Values", [])) for each in given.get("Targets") or []}
        for instance in [*(given.get("InstanceIds") or []), *place.tagged_instances(targets)]:
            yield Demand(
                action, place.arn("ec2", f"instance/{instance}"), resource_tags(place.tags(instance), "ssm", "ec2")
            )
        return
    if operation == "GetParametersByPath":
        path = str(given.get("Path", "")).removeprefix("/")
        yield Demand(action, place.arn("ssm", f"parameter/{path}"))
        yield from _parameter_keys(operation, given, place, [])
        return
    names = given.get("Names") or [given.get("Name") or given.get("ResourceId")]
    if "Parameter" not in operation and given.get("ResourceType") != "Parameter":
        yield Demand(action)
        return
    for name in names:
        if operation == "DescribeParameters" or not name:
            yield Demand(action)
            continue
        tags = requested_tags(listed_tags(given.get("Tags")))
        yield Demand(action, place.arn("ssm", f"parameter/{str(name).split(':')[0].removeprefix('/')}"), tags)
    yield from _parameter_keys(operation, given, place, [str(name) for name in names if name])


def _parameter_keys(operation: str, given: Parameters, place: Place, names: list[str]) -> Iterator[Demand]:
    through = {"kms:viaservice": (f"ssm.{place.region}.amazonaws.com",)}
    if operation == "PutParameter" and given.get("Type") == "SecureString":
        # GenerateDataKey is what parameters of the advanced tier take.
        kind = "kms:GenerateDataKey" if given.get("Tier") == "Advanced" else "kms:Encrypt"
        yield Demand(kind, place.key_arn(str(given.get("KeyId") or "alias/aws/ssm")), through)
    if given.get("WithDecryption"):
        for key in place.parameter_keys(names, str(given.get("Path") or "")):
            yield Demand("kms:Decrypt", place.key_arn(key), through)


def kms(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call to KMS asks for."""
    context = requested_tags({str(tag["TagKey"]): str(tag["TagValue"]) for tag in given.get("Tags") or []})
    for parameter, name in (
        ("SigningAlgorithm", "kms:signingalgorithm"),
        ("MessageType", "kms:messagetype"),
        ("KeySpec", "kms:keyspec"),
        ("KeyUsage", "kms:keyusage"),
    ):
        if given.get(parameter):
            context[name] = (str(given[parameter]),)
    asked = str(given.get("KeyId") or given.get("TargetKeyId") or "")
    if "alias/" in asked:
        context["kms:requestalias"] = (asked[asked.index("alias/") :],)
    if alias := str(given.get("AliasName") or ""):
        yield Demand(f"kms:{operation}", place.arn("kms", alias), context)
    if asked or not alias:
        yield Demand(f"kms:{operation}", place.key_arn(asked) if asked else "*", context)


def ses(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call to SES, of either version, asks for."""
    if operation not in {"SendEmail", "SendRawEmail", "SendTemplatedEmail"}:
        yield Demand(f"ses:{operation}")
        return
    sender = str(given.get("Source") or given.get("FromEmailAddress") or "")
    address = sender.rpartition("<")[2].rstrip(">").strip()
    raw = given.get("Destination") or {}
    to = [one for kind in ("ToAddresses", "CcAddresses", "BccAddresses") for one in raw.get(kind) or []]
    context = {"ses:fromaddress": (address,), "ses:recipients": tuple(map(str, to or given.get("Destinations") or []))}
    yield Demand(f"ses:{operation}", place.arn("ses", f"identity/{address.rpartition('@')[2] or address}"), context)


def cloudwatch(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call to CloudWatch asks for."""
    if operation == "PutMetricData":
        yield Demand(f"cloudwatch:{operation}", "*", {"cloudwatch:namespace": (str(given.get("Namespace", "")),)})
        return
    names = given.get("AlarmNames") or [given["AlarmName"]] if given.get("AlarmName") else given.get("AlarmNames") or []
    if operation == "DescribeAlarms" or not names:
        yield Demand(f"cloudwatch:{operation}")
    else:
        for name in names:
            yield Demand(f"cloudwatch:{operation}", place.arn("cloudwatch", f"alarm:{name}"))


def logs(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call to CloudWatch Logs asks for."""
    group = given.get("logGroupName")
    if not group or operation == "DescribeLogGroups":
        yield Demand(f"logs:{operation}")
        return
    stream = given.get("logStreamName")
    of_stream = f":log-stream:{stream}" if stream and operation in {"PutLogEvents", "GetLogEvents"} else ""
    yield Demand(f"logs:{operation}", place.arn("logs", f"log-group:{group}{of_stream}"))


def iam(operation: str, given: Parameters, place: Place) -> Iterator[Demand]:
    """Yield what a call to IAM asks for."""
    root = f"arn:aws:iam::{place.account}:"
    tags = requested_tags(listed_tags(given.get("Tags")))
    role, profile = given.get("RoleName"), given.get("InstanceProfileName")
    if operation == "AddRoleToInstanceProfile":
        yield Demand(f"iam:{operation}", f"{root}instance-profile/{profile}")
        yield Demand("iam:PassRole", f"{root}role/{role}", {"iam:passedtoservice": ("ec2.amazonaws.com",)})
    elif profile:
        yield Demand(f"iam:{operation}", f"{root}instance-profile/{profile}", tags)
    elif role:
        yield Demand(f"iam:{operation}", f"{root}role/{role}", tags)
    elif provider := given.get("OpenIDConnectProviderArn"):
        yield Demand(f"iam:{operation}", str(provider), tags)
    elif operation == "CreateOpenIDConnectProvider":
        host = str(given.get("Url", "")).removeprefix("https://")
        yield Demand(f"iam:{operation}", f"{root}oidc-provider/{host}", tags)
    elif user := given.get("UserName"):
        yield Demand(f"iam:{operation}", f"{root}user/{user}", tags)
    else:
        yield Demand(f"iam:{operation}", "*", tags)
