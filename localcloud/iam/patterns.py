"""The texts in IAM policies: wildcards, and variables such as ${aws:PrincipalTag/team, 'none'}."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import cache

# Values of a condition key: () when the request has none, None when they can't be known.
Lookup = Callable[[str], "tuple[str, ...] | None"]
_VARIABLE = re.compile(r"\$\{([^}]*)\}")
_WITH_DEFAULT = re.compile(r"\s*([^,\s]+)\s*(?:,\s*'([^']*)')?\s*")
# Characters that stand for themselves when they are written as variables; private ones that no ARN has.
_LITERALS = {"*": "\ue000", "?": "\ue001", "$": "\ue002"}
# What a variable stands for whose value can't be known.
_ANYTHING = "\ue003"


class Unresolved(ValueError):
    """A variable has no value in this request: what it stands in fits nothing."""


def resolve(text: str, lookup: Lookup | None) -> str:
    """Put values in the place of variables; with None for `lookup` (an old policy's version) there are none.

    A value that can't be known fits anything. A value's own wildcards stand for themselves. Raises Unresolved.
    """
    if lookup is None or "${" not in text:
        return text

    def value(variable: re.Match[str]) -> str:
        if variable[1] in _LITERALS:
            return _LITERALS[variable[1]]
        parts = _WITH_DEFAULT.fullmatch(variable[1])
        if parts is None:
            raise Unresolved(variable[0])
        values = lookup(parts[1])
        if values is None:
            return _ANYTHING
        if len(values) == 1:
            return _literal(values[0])
        if parts[2] is None:
            raise Unresolved(variable[0])  # no value, or several
        return _literal(parts[2])

    return _VARIABLE.sub(value, text)


def _literal(value: str) -> str:
    for character, stand_in in _LITERALS.items():
        value = value.replace(character, stand_in)
    return value


def equals(wanted: str, text: str, *, fold: bool = False) -> bool:
    """Say whether a resolved text is the same: its `*` and `?` are no wildcards."""
    return matches(_literal(wanted), text, fold=fold)


def matches(pattern: str, text: str, *, fold: bool = False) -> bool:
    """Say whether a resolved text with the wildcards `*` and `?` fits; with `fold` the case does not matter."""
    return _expression(pattern, fold).fullmatch(text) is not None


def arn_matches(pattern: str, arn: str) -> bool:
    """Say whether an ARN fits part by part, as ArnLike compares: no wildcard reaches over a colon between parts."""
    patterns, parts = pattern.split(":", 5), arn.split(":", 5)
    return len(patterns) == len(parts) and all(map(matches, patterns, parts))


@cache
def _expression(pattern: str, fold: bool) -> re.Pattern[str]:
    meaning = {"*": ".*", "?": ".", _ANYTHING: ".*", **{each: re.escape(what) for what, each in _LITERALS.items()}}
    text = "".join(meaning.get(character) or re.escape(character) for character in pattern)
    return re.compile(text, re.DOTALL | (re.IGNORECASE if fold else 0))
