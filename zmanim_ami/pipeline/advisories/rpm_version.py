"""Which of two RPMs is the newer one, by rpm's own rules: a tilde sorts before everything, a caret after its base."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

# Whatever is neither a word's nor a number's only parts them.
_SEPARATORS = re.compile(r"\A[^A-Za-z0-9~^]+")
_NUMBER, _WORD = re.compile(r"[0-9]+"), re.compile(r"[A-Za-z]+")


def compare(one: Mapping[str, str], other: Mapping[str, str]) -> int:
    """Return -1, 0 or 1 as `one` is older than `other`, as new, or newer: by `epoch`, `version` and `release`."""
    epochs = int(one["epoch"] or 0), int(other["epoch"] or 0)
    if epochs[0] != epochs[1]:
        return 1 if epochs[0] > epochs[1] else -1
    return compare_texts(one["version"], other["version"]) or compare_texts(one["release"], other["release"])


KEY = functools.cmp_to_key(compare)


def compare_texts(one: str, other: str) -> int:
    """Return -1, 0 or 1 as the version or release `one` is older than `other`, as new, or newer."""
    while True:
        one, other = _SEPARATORS.sub("", one), _SEPARATORS.sub("", other)
        tildes = one.startswith("~"), other.startswith("~")
        if any(tildes):
            if not all(tildes):
                return -1 if tildes[0] else 1
            one, other = one[1:], other[1:]
            continue
        carets = one.startswith("^"), other.startswith("^")
        if any(carets):
            if not all(carets):
                # After a base that ends here a caret is newer, and older than a base that goes on.
                return (1 if not other else -1) if carets[0] else (-1 if not one else 1)
            one, other = one[1:], other[1:]
            continue
        if not one or not other:
            return bool(one) - bool(other)
        kind = _NUMBER if one[0].isdigit() else _WORD
        parts = kind.match(one), kind.match(other)
        if parts[0] is None or parts[1] is None:
            return 1 if kind is _NUMBER else -1  # a number is newer than a word
        answer = _compare_parts(parts[0][0], parts[1][0], kind is _NUMBER)
        if answer:
            return answer
        one, other = one[parts[0].end() :], other[parts[1].end() :]


def _compare_parts(one: str, other: str, numbers: bool) -> int:
    if numbers:
        first, second = int(one), int(other)
        return (first > second) - (first < second)
    return (one > other) - (one < other)
