"""What a service checks of every request before it does anything, by its own model: moto leaves it to each operation.

EC2 refuses a parameter or a filter that it does not know ("Error codes for the Amazon EC2 API"); the other services
pass over parameters that they don't know. Which filters an operation has stands in its documentation alone, which
botocore's models bring with them.
"""

from __future__ import annotations

import html
import re
import urllib.parse
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from botocore.exceptions import UnknownServiceError
from botocore.model import OperationNotFoundError
from moto.core.model import OperationModel
from moto.core.utils import get_service_model

from localcloud.api.calls import ApiCall, body_of, model_name, parameters
from localcloud.api.errors import protocol_of
from localcloud.api.one_form import Environ, RequestRefused
from localcloud.api.pagination import Pages

# Filters that EC2 takes everywhere where it has filters, and by name those that clients use though the operation's
# documentation does not list them (any more).
_EVERYWHERE = {"tag:", "tag-key"}
_UNLISTED = {"DescribeAddresses": {"domain"}, "DescribeVpcs": {"isDefault"}}
# What EC2 calls a parameter by that is missing, where it is not its name.
_MISSING = {"Resources": "resourceIdSet"}
# Services that hold numbers to their model's ranges, each with its code for one beyond.
_RANGES = {
    **dict.fromkeys(("iam", "sts", "autoscaling"), "ValidationError"),
    **dict.fromkeys(("kms", "ssm"), "ValidationException"),
    "logs": "InvalidParameterException",
}
# What every request in a form may bring along.
_COMMON = {"Action", "Version"}
_CODE = re.compile(r"<code>(.*?)</code>")
_LONGEST_KEY, _LONGEST_VALUE = 128, 256
_LISTED = re.compile(r"<li>\s*<p>\s*<code>")


def check(environ: Environ, call: ApiCall, pages: Pages) -> None:
    """Refuse what the service would before it looks at any resource. Raises RequestRefused.

    What it does not know: parameters and filters (of EC2), and tokens that it has not given; what is missing.
    """
    described = _model(model_name(call.service, environ), call.operation)
    if described is None:
        return
    protocol = protocol_of(call.service, str(environ.get("CONTENT_TYPE", "")))
    if protocol == "ec2":
        _check_names(body_of(environ), described)
    given = parameters(environ, call.service, call.operation)
    if protocol in {"ec2", "query", "json"} and described.input_shape is not None:
        for name in described.input_shape.required_members:
            if given.get(name) is None:
                raise _missing(protocol, name)
        if code := _RANGES.get(call.service):
            _check_ranges(given, described, code)
    if protocol == "ec2":
        _check_filters(given, described)
        _check_tags(given)
    pages.check(call, given, described, protocol)
    if protocol == "ec2" and given.get("DryRun"):
        raise RequestRefused("Request would have succeeded, but DryRun flag is set.", "DryRunOperation", 412)


def _check_ranges(given: Mapping[str, Any], described: OperationModel, code: str) -> None:
    members = described.input_shape.members if described.input_shape is not None else {}
    for name, shape in members.items():
        value, limits = given.get(name), shape.metadata
        if shape.type_name not in {"integer", "long"} or not isinstance(value, int):
            continue
        for word, limit, wrong in (
            ("less", limits.get("max"), value > limits.get("max", value)),
            ("greater", limits.get("min"), value < limits.get("min", value)),
        ):
            if wrong:
                raise RequestRefused(
                    f"1 validation error detected: Value '{value}' at '{name[0].lower()}{name[1:]}' failed to satisfy "
                    f"constraint: Member must have value {word} than or equal to {limit}",
                    code,
                )


@cache
def _model(service: str, operation: str) -> OperationModel | None:
    try:
        described: OperationModel = get_service_model(service).operation_model(operation)
    except (UnknownServiceError, OperationNotFoundError):
        return None
    return described


def _missing(protocol: str, name: str) -> RequestRefused:
    if protocol == "ec2":
        return RequestRefused(f"The request must contain the parameter {_MISSING.get(name, name)}", "MissingParameter")
    text = f"1 validation error detected: Value null at '{name[0].lower()}{name[1:]}' failed to satisfy constraint:"
    code = "ValidationError" if protocol == "query" else "ValidationException"
    return RequestRefused(f"{text} Member must not be null", code)


def _check_names(form: bytes, described: OperationModel) -> None:
    for name, _ in urllib.parse.parse_qsl(form.decode(), keep_blank_values=True):
        if name not in _COMMON and not _is_known(described.input_shape, name.split(".")):
            raise RequestRefused(f"The parameter {name.partition('.')[0]} is not recognized", "UnknownParameter")


def _is_known(shape: Any, parts: Sequence[str]) -> bool:
    """Say whether a form's name, at its dots, leads to a member of a shape (EC2's way of writing parameters)."""
    if shape is None or not parts:
        return shape is not None
    if shape.type_name == "list":
        return parts[0].isdigit() and _is_known(shape.member, parts[1:])
    if shape.type_name != "structure":
        return False
    return any(
        _name(name, member) == parts[0] and _is_known(member, parts[1:]) for name, member in shape.members.items()
    )


def _name(name: str, member: Any) -> str:
    said = str(member.serialization.get("name", name))
    return str(member.serialization.get("queryName") or said[:1].upper() + said[1:])


def _check_filters(given: Mapping[str, Any], described: OperationModel) -> None:
    known = _filters(described)
    for each in given.get("Filters") or []:
        name = str(each.get("Name", "null"))
        if known and name not in known and not (name.startswith("tag:") and "tag:" in known):
            raise RequestRefused(f"The filter '{name}' is invalid", "InvalidParameterValue")


def _check_tags(given: Mapping[str, Any]) -> None:
    """Refuse tags that nobody can give (User Guide, "Tag restrictions"), in whatever a call makes or tags."""
    tags = [tag for each in given.get("TagSpecifications") or [] for tag in each.get("Tags") or []]
    for tag in [*tags, *(given.get("Tags") or [])]:
        key, value = str(tag.get("Key") or ""), str(tag.get("Value") or "")
        if key.lower().startswith("aws:"):
            text = "Tag keys starting with 'aws:' are reserved for internal use"
        elif not key:
            text = "Tag key must not be empty"
        elif len(key) > _LONGEST_KEY:
            text = f"Tag key exceeds the maximum length of {_LONGEST_KEY} characters"
        elif len(value) > _LONGEST_VALUE:
            text = f"Tag value exceeds the maximum length of {_LONGEST_VALUE} characters"
        else:
            continue
        raise RequestRefused(text, "InvalidParameterValue")


@cache
def _filters(described: OperationModel) -> frozenset[str]:
    """Return the filters of an operation of EC2; none where its documentation does not list them."""
    shape: Any = described.input_shape
    text = str(shape.members["Filters"].documentation) if shape and "Filters" in shape.members else ""
    if not _LISTED.search(text):
        return frozenset()
    names = {html.unescape(name).strip() for name in _CODE.findall(text)}
    if any(name.partition(":")[0] == "tag" for name in names):
        names |= {"tag-value"}
    return frozenset(names | _EVERYWHERE | _UNLISTED.get(described.name, set()))
