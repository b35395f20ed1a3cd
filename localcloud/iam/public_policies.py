"""Which policies of buckets are public: what S3's Block Public Access goes by.

S3's user guide, "Blocking public access to your Amazon S3 storage", "The meaning of public".
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence

from localcloud.iam.conditions import Condition
from localcloud.iam.policy import Statement

# Keys that make a statement for everybody one for few, when their values are fixed.
_NARROWING = {
    *("aws:sourcearn", "aws:sourcevpc", "aws:sourcevpce", "aws:sourceowner", "aws:sourceaccount", "aws:userid"),
    *("aws:principalaccount", "aws:principalarn", "aws:principalorgid", "aws:principalorgpaths"),
    *("s3:dataaccesspointarn", "s3:dataaccesspointaccount", "s3:x-amz-server-side-encryption-aws-kms-key-id"),
}
_EQUAL = {"StringEquals", "StringEqualsIgnoreCase", "StringLike", "ArnEquals", "ArnLike"}
# The largest networks that are not everybody's.
_SHORTEST_PREFIX = {4: 8, 6: 32}


def is_public(statements: Sequence[Statement]) -> bool:
    """Say whether a bucket's policy allows something to everybody."""
    return any(each.effect == "Allow" and _is_for_everybody(each) for each in statements)


def _is_for_everybody(statement: Statement) -> bool:
    everybody = statement.not_principals is not None or any(
        "*" in each for named in (statement.principals or {}).values() for each in named
    )
    return everybody and not any(_narrows(condition) for condition in statement.conditions)


def _narrows(condition: Condition) -> bool:
    if condition.if_exists or condition.each == "ForAllValues":
        return False
    if condition.key.lower() == "aws:sourceip":
        return condition.operator == "IpAddress" and all(map(_is_narrow, condition.wanted))
    fixed = not any(sign in value for value in condition.wanted for sign in "*?$")
    return fixed and condition.key.lower() in _NARROWING and condition.operator in _EQUAL


def _is_narrow(address: str) -> bool:
    try:
        network = ipaddress.ip_network(address, strict=False)
    except ValueError:
        return False
    return network.prefixlen >= _SHORTEST_PREFIX[network.version]
