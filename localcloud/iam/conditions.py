"""The Condition of a policy's statement: IAM's operators over the values of a request's condition keys.

Not every key's value can be known here: `knows` says which are.
"""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from localcloud.iam.patterns import Lookup, arn_matches, equals, matches, resolve

Compare = Callable[[str, str], bool]
_KNOWN = {
    "aws:currenttime", "aws:epochtime", "aws:principalaccount", "aws:principalarn", "aws:principaltype",
    "aws:requestedregion", "aws:resourceaccount", "aws:securetransport", "aws:userid", "aws:username",
    "cloudwatch:namespace", "ec2:createaction", "ec2:instanceprofile", "ec2:instancetype", "ec2:metadatahttptokens",
    "ec2:owner", "ec2:sourceinstancearn", "iam:passedtoservice", "kms:calleraccount", "kms:encryptioncontextkeys",
    "kms:keyspec", "kms:keyusage", "kms:messagetype", "kms:requestalias", "kms:signingalgorithm", "kms:viaservice",
    "s3:delimiter", "s3:max-keys", "s3:prefix", "s3:versionid", "s3:x-amz-acl", "s3:x-amz-content-sha256",
    "s3:x-amz-copy-source", "s3:x-amz-server-side-encryption", "s3:x-amz-server-side-encryption-aws-kms-key-id",
    "s3:x-amz-storage-class", "ses:fromaddress", "ses:recipients", "ssm:overwrite", "sts:externalid",
    "sts:rolesessionname",
}  # fmt: skip
_KNOWN_FAMILIES = ("aws:principaltag/", "kms:encryptioncontext:", "ec2:resourcetag/", "ssm:resourcetag/")
# Services whose calls are searched for the tags that they bring, and whose resources' tags are looked up.
_TAGGING = {"ec2", "ssm", "kms", "iam"}
_TAGGED = {"ec2"}


@dataclass(frozen=True)
class Condition:
    """One key of one operator: `wanted` are the policy's values, `each` is ForAllValues, ForAnyValue or empty."""

    operator: str
    each: str
    if_exists: bool
    key: str
    wanted: tuple[str, ...]


def _number(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda wanted, value: compare(float(value), float(wanted))


def _date(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda wanted, value: compare(_time(value), _time(wanted))


def _time(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        parsed = datetime.fromisoformat(text)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _address(wanted: str, value: str) -> bool:
    return ipaddress.ip_address(value) in ipaddress.ip_network(wanted, strict=False)


# Each compares a policy's value (wildcards and all) with a request's.
_COMPARE: Mapping[str, Compare] = {
    "StringEquals": equals,
    "StringEqualsIgnoreCase": lambda wanted, value: equals(wanted, value, fold=True),
    "StringLike": matches,
    "ArnLike": arn_matches,
    "ArnEquals": arn_matches,
    "Bool": lambda wanted, value: wanted.lower() == value.lower(),
    "IpAddress": _address,
    "NumericEquals": _number(operator.eq),
    "NumericLessThan": _number(operator.lt),
    "NumericLessThanEquals": _number(operator.le),
    "NumericGreaterThan": _number(operator.gt),
    "NumericGreaterThanEquals": _number(operator.ge),
    "DateEquals": _date(operator.eq),
    "DateLessThan": _date(operator.lt),
    "DateLessThanEquals": _date(operator.le),
    "DateGreaterThan": _date(operator.gt),
    "DateGreaterThanEquals": _date(operator.ge),
}
_NEGATED = {
    "StringNotEquals": "StringEquals",
    "StringNotEqualsIgnoreCase": "StringEqualsIgnoreCase",
    "StringNotLike": "StringLike",
    "ArnNotLike": "ArnLike",
    "ArnNotEquals": "ArnEquals",
    "NotIpAddress": "IpAddress",
    "NumericNotEquals": "NumericEquals",
    "DateNotEquals": "DateEquals",
}


def read_conditions(raw: Any) -> tuple[Condition, ...]:
    """Return the conditions of a statement's Condition element. Raises ValueError for an operator that IAM lacks."""
    if not isinstance(raw, dict) or not all(isinstance(keys, dict) for keys in raw.values()):
        raise ValueError("Condition is no object of objects")
    return tuple(_read(name, key, value) for name, keys in raw.items() for key, value in keys.items())


def _read(name: str, key: str, value: Any) -> Condition:
    each, _, plain_name = name.rpartition(":")
    bare = plain_name.removesuffix("IfExists")
    if each not in {"", "ForAllValues", "ForAnyValue"} or bare not in {*_COMPARE, *_NEGATED, "Null"}:
        raise ValueError(f"there is no condition operator {name}")
    values = value if isinstance(value, list) else [value]
    wanted = tuple(str(each).lower() if isinstance(each, bool) else str(each) for each in values)
    return Condition(bare, each, bare != plain_name, key, wanted)


def conditions_met(
    conditions: Sequence[Condition], context: Lookup, variables: Lookup | None, note: Callable[[str], object]
) -> bool:
    """Say whether all conditions are met. One whose key can't be known counts as met; `note` is called with it.

    That only when every other condition is met: else the key has decided nothing.
    """
    trusted = []
    for condition in conditions:
        values = context(condition.key)
        if values is None:
            trusted.append(condition.key)
        elif not _met(condition, values, variables):
            return False
    for key in trusted:
        note(key)
    return True


def _met(condition: Condition, values: tuple[str, ...], variables: Lookup | None) -> bool:
    if condition.operator == "Null":
        return (condition.wanted == ("true",)) == (not values)
    negated = condition.operator in _NEGATED
    if not values:
        # A missing key: "not equal" is true of it, "all of none" too, and IfExists says so itself.
        return negated or condition.if_exists or condition.each == "ForAllValues"
    compare = _COMPARE[_NEGATED.get(condition.operator, condition.operator)]

    def holds(value: str) -> bool:
        return negated != any(_compare(compare, wanted, value, variables) for wanted in condition.wanted)

    if condition.each == "ForAnyValue":
        return any(holds(value) for value in values)
    return all(holds(value) for value in values)


def _compare(compare: Compare, wanted: str, value: str, variables: Lookup | None) -> bool:
    try:
        return compare(resolve(wanted, variables), value)
    except ValueError:
        return False  # no number, no date, no address, no value of a variable: it fits nothing, as on AWS


def knows(key: str, action: str) -> bool:
    """Say whether a key's value in a request for `action` is known, if only to be none. Both in lower case.

    The claims of an identity provider's token are all in it.
    """
    service = action.partition(":")[0]
    if key in _KNOWN or key.startswith(_KNOWN_FAMILIES):
        return True
    if key == "aws:tagkeys" or key.startswith("aws:requesttag/"):
        return service in _TAGGING
    if key.startswith("aws:resourcetag/"):
        return service in _TAGGED or action.lower() == "ssm:sendcommand"
    return action.lower() == "sts:assumerolewithwebidentity" and "." in key.partition(":")[0]
