"""The Condition of a policy's statement: IAM's operators over the values of a request's condition keys."""

from __future__ import annotations

import ipaddress
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from localcloud.iam.patterns import Lookup, Unresolved, arn_matches, equals, matches, resolve

Compare = Callable[[str, str], bool]


@dataclass(frozen=True)
class Condition:
    """One key of one operator: `wanted` are the policy's values, `each` is ForAllValues, ForAnyValue or empty."""

    operator: str
    each: str
    if_exists: bool
    key: str
    wanted: tuple[str, ...]


def _number(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda wanted, found: compare(float(found), float(wanted))


def _date(compare: Callable[[Any, Any], bool]) -> Compare:
    return lambda wanted, found: compare(_time(found), _time(wanted))


def _time(text: str) -> datetime:
    try:
        return datetime.fromtimestamp(float(text), UTC)
    except ValueError:
        parsed = datetime.fromisoformat(text)
        return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)


def _address(wanted: str, found: str) -> bool:
    return ipaddress.ip_address(found) in ipaddress.ip_network(wanted, strict=False)


# Each compares a policy's value (wildcards and all) with a request's.
_COMPARE: Mapping[str, Compare] = {
    "StringEquals": equals,
    "StringEqualsIgnoreCase": lambda wanted, found: equals(wanted, found, fold=True),
    "StringLike": matches,
    "ArnLike": arn_matches,
    "ArnEquals": arn_matches,
    "Bool": lambda wanted, found: wanted.lower() == found.lower(),
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
    wanted = tuple(str(one).lower() if isinstance(one, bool) else str(one) for one in values)
    return Condition(bare, each, bare != plain_name, key, wanted)


def conditions_met(
    conditions: Sequence[Condition], context: Lookup, variables: Lookup | None, note: Callable[[str], object]
) -> bool:
    """Say whether all conditions are met. One whose key nobody can tell of counts as met, and `note` is told the key.

    It is told only when every other condition is met: else the key has decided nothing.
    """
    trusted = []
    for condition in conditions:
        found = context(condition.key)
        if found is None:
            trusted.append(condition.key)
        elif not _met(condition, found, variables):
            return False
    for key in trusted:
        note(key)
    return True


def _met(condition: Condition, found: tuple[str, ...], variables: Lookup | None) -> bool:
    if condition.operator == "Null":
        return (condition.wanted == ("true",)) == (not found)
    negated = condition.operator in _NEGATED
    if not found:
        # A missing key: "not equal" is true of it, "all of none" too, and IfExists says so itself.
        return negated or condition.if_exists or condition.each == "ForAllValues"
    compare = _COMPARE[_NEGATED.get(condition.operator, condition.operator)]

    def holds(value: str) -> bool:
        return negated != any(_compare(compare, wanted, value, variables) for wanted in condition.wanted)

    if condition.each == "ForAnyValue":
        return any(holds(value) for value in found)
    return all(holds(value) for value in found)


def _compare(compare: Compare, wanted: str, value: str, variables: Lookup | None) -> bool:
    try:
        return compare(resolve(wanted, variables), value)
    except Unresolved:
        return False
    except ValueError:
        return False  # no number, no date, no address: it fits nothing, as on AWS
