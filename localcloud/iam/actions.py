"""The actions that an API call requires of IAM, each on a resource and with the condition keys that can be known.

The tables follow AWS's "Service Authorization Reference". An operation that has no row requires the action of its own
name on `*`, as services do that know no resources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from localcloud.iam.lookups import Lookups

Parameters = Mapping[str, Any]
Tags = Mapping[str, str]
Context = dict[str, tuple[str, ...]]


@dataclass(frozen=True)
class RequiredAction:
    """One action on one resource. `context` holds condition keys in lower case."""

    action: str
    resource: str = "*"
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def requested_tags(tags: Tags) -> Context:
    """Return the condition keys of tags that a call brings."""
    if not tags:
        return {}
    return {"aws:tagkeys": tuple(tags), **{f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}}


def resource_tags(tags: Tags, *services: str) -> Context:
    """Return the condition keys of tags that a resource has, under `aws` and each service's own name."""
    return {
        f"{service}:resourcetag/{key.lower()}": (value,)
        for service in ("aws", *services)
        for key, value in tags.items()
    }


def listed_tags(raw: Any) -> dict[str, str]:
    """Return the tags of a list of {Key, Value}."""
    return {str(tag.get("Key", "")): str(tag.get("Value", "")) for tag in raw or []}


def ssm(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to Systems Manager."""
    action = f"ssm:{operation}"
    if operation == "SendCommand":
        document = str(given.get("DocumentName", ""))
        # AWS's own documents belong to no account.
        owner = "" if document.startswith("AWS-") else lookups.account
        yield RequiredAction(action, f"arn:aws:ssm:{lookups.region}:{owner}:document/{document}")
        targets = {str(each.get("Key", "")): list(each.get("Values", [])) for each in given.get("Targets") or []}
        for instance in [*(given.get("InstanceIds") or []), *lookups.target_instances(targets)]:
            context = resource_tags(lookups.tags(instance), "ssm", "ec2")
            yield RequiredAction(action, lookups.arn("ec2", f"instance/{instance}"), context)
        return
    names = [str(name) for name in given.get("Names") or [given.get("Name") or given.get("ResourceId")] if name]
    about_parameters = "Parameter" in operation or given.get("ResourceType") == "Parameter"
    resources = names if about_parameters and operation != "DescribeParameters" else []
    if operation == "GetParametersByPath":
        resources = [str(given.get("Path", ""))]
    context = requested_tags(listed_tags(given.get("Tags")))
    if "Overwrite" in given:  # a call that does not say it has not the key
        context["ssm:overwrite"] = (str(given["Overwrite"]).lower(),)
    for name in resources:
        yield RequiredAction(action, lookups.arn("ssm", f"parameter/{name.split(':')[0].removeprefix('/')}"), context)
    if not resources:
        yield RequiredAction(action)
    yield from _parameter_keys(operation, given, lookups, names)


def _parameter_keys(operation: str, given: Parameters, lookups: Lookups, names: list[str]) -> Iterator[RequiredAction]:
    through = {"kms:viaservice": (f"ssm.{lookups.region}.amazonaws.com",)}
    if operation == "PutParameter" and given.get("Type") == "SecureString":
        # GenerateDataKey is what parameters of the advanced tier take.
        kind = "kms:GenerateDataKey" if given.get("Tier") == "Advanced" else "kms:Encrypt"
        yield RequiredAction(kind, lookups.key_arn(str(given.get("KeyId") or "alias/aws/ssm")), through)
    if given.get("WithDecryption"):
        for key in lookups.parameter_keys(names, str(given.get("Path") or "")):
            yield RequiredAction("kms:Decrypt", lookups.key_arn(key), through)


def kms(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to KMS."""
    context = requested_tags({str(tag["TagKey"]): str(tag["TagValue"]) for tag in given.get("Tags") or []})
    for parameter in ("SigningAlgorithm", "MessageType", "KeySpec", "KeyUsage"):
        if given.get(parameter):
            context[f"kms:{parameter.lower()}"] = (str(given[parameter]),)
    pairs = given.get("EncryptionContext") or {}
    context |= {f"kms:encryptioncontext:{name.lower()}": (str(value),) for name, value in pairs.items()}
    if pairs:
        context["kms:encryptioncontextkeys"] = tuple(pairs)
    key = str(given.get("KeyId") or given.get("TargetKeyId") or given.get("SourceKeyId") or "")
    if not key and given.get("CiphertextBlob"):
        key = lookups.key_of_ciphertext(given["CiphertextBlob"])
    if operation == "ReEncrypt":  # which is two actions
        into = str(given.get("DestinationKeyId") or "")
        yield RequiredAction("kms:ReEncryptFrom", lookups.key_arn(key) if key else "*", context)
        yield RequiredAction("kms:ReEncryptTo", lookups.key_arn(into), context)
        return
    if "alias/" in key:
        context["kms:requestalias"] = (key[key.index("alias/") :],)
    alias = str(given.get("AliasName") or "")
    if alias:
        yield RequiredAction(f"kms:{operation}", lookups.arn("kms", alias), context)
    if key or not alias:
        yield RequiredAction(f"kms:{operation}", lookups.key_arn(key) if key else "*", context)


def ses(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to SES, of either version."""
    if operation not in {"SendEmail", "SendRawEmail", "SendTemplatedEmail"}:
        yield RequiredAction(f"ses:{operation}")
        return
    sender = str(given.get("Source") or given.get("FromEmailAddress") or "")
    address = sender.rpartition("<")[2].rstrip(">").strip()
    raw = given.get("Destination") or {}
    to = [one for kind in ("ToAddresses", "CcAddresses", "BccAddresses") for one in raw.get(kind) or []]
    context = {"ses:fromaddress": (address,), "ses:recipients": tuple(map(str, to or given.get("Destinations") or []))}
    identity = lookups.arn("ses", f"identity/{address.rpartition('@')[2] or address}")
    yield RequiredAction(f"ses:{operation}", identity, context)


def cloudwatch(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to CloudWatch."""
    action = f"cloudwatch:{operation}"
    names = given.get("AlarmNames") or ([given["AlarmName"]] if given.get("AlarmName") else [])
    if operation == "PutMetricData":
        yield RequiredAction(action, "*", {"cloudwatch:namespace": (str(given.get("Namespace", "")),)})
    elif operation == "DescribeAlarms" or not names:
        yield RequiredAction(action)
    else:
        for name in names:
            yield RequiredAction(action, lookups.arn("cloudwatch", f"alarm:{name}"))


def logs(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to CloudWatch Logs."""
    group, stream = given.get("logGroupName"), given.get("logStreamName")
    of_stream = f":log-stream:{stream}" if stream and operation in {"PutLogEvents", "GetLogEvents"} else ""
    named = group and operation != "DescribeLogGroups"
    yield RequiredAction(f"logs:{operation}", lookups.arn("logs", f"log-group:{group}{of_stream}") if named else "*")


def iam(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call to IAM."""
    root = f"arn:aws:iam::{lookups.account}:"
    resources = {
        "InstanceProfileName": "instance-profile/{}",
        "RoleName": "role/{}",
        "Url": "oidc-provider/{}",
        "UserName": "user/{}",
    }
    named = [
        root + name.format(str(given[parameter]).removeprefix("https://"))
        for parameter, name in resources.items()
        if given.get(parameter)
    ]
    resource = str(given.get("OpenIDConnectProviderArn") or [*named, "*"][0])
    yield RequiredAction(f"iam:{operation}", resource, requested_tags(listed_tags(given.get("Tags"))))
    if operation == "AddRoleToInstanceProfile":
        role = f"{root}role/{given.get('RoleName')}"
        yield RequiredAction("iam:PassRole", role, {"iam:passedtoservice": ("ec2.amazonaws.com",)})
