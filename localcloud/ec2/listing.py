"""What EC2's Describe operations have in common: filters with wildcards, and pages.

The user guide, "List and filter your resources": filters are joined by AND, the values of one by OR; `*` and `?` are
wildcards, a backslash takes that from them, and all is case-sensitive.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

from localcloud.api.patches import ApiError

Row = TypeVar("Row")
Values = Mapping[str, Callable[[Any], object]]


def matching(rows: Iterable[Row], filters: Sequence[Mapping[str, Any]], known: Values) -> list[Row]:
    """Return the rows that a call's Filters let through; `known` says what a row has for each filter, lists included.

    Tags need not be in `known`. Raises ApiError (InvalidParameterValue) for a filter that the operation lacks.
    """
    chosen = list(rows)
    for each in filters:
        name, patterns = str(each.get("Name", "null")), [_pattern(str(value)) for value in each.get("Values") or []]
        if name not in known and not re.fullmatch(r"tag:.+|tag-key|tag-value", name, re.DOTALL):
            raise ApiError("InvalidParameterValue", f"The filter '{name}' is invalid")
        chosen = [
            row
            for row in chosen
            if any(pattern.fullmatch(text) for text in _texts(row, name, known) for pattern in patterns)
        ]
    return chosen


def page(response: Any, rows: Sequence[Row], *, ids: str, least: int = 1, most: int = 1000) -> tuple[list[Row], Any]:
    """Return the part of the rows that a call's MaxResults and NextToken ask for, and the token of the next, or None.

    `ids` names the parameter that MaxResults can't stand beside. Raises ApiError (InvalidParameterValue,
    InvalidParameterCombination, InvalidNextToken).
    """
    size, token = response._get_param("MaxResults"), response._get_param("NextToken")
    if size is not None and response._get_param(ids):
        name = ids[0].lower() + ids[1:]
        raise ApiError(
            "InvalidParameterCombination", f"The parameter {name} cannot be used with the parameter maxResults"
        )
    if size is not None and not least <= int(size) <= most:
        bound = f"greater than {least}" if int(size) < least else f"less than {most}"
        raise ApiError(
            "InvalidParameterValue", f"Value ( {size} ) for parameter maxResults is invalid. Expecting a value {bound}."
        )
    start = _start(token, len(rows)) if token else 0
    end = start + int(size) if size is not None else len(rows)
    following = base64.urlsafe_b64encode(f"from {end}".encode()).decode() if end < len(rows) else None
    return list(rows[start:end]), following


def _start(token: str, count: int) -> int:
    try:
        known = re.fullmatch(r"from (\d{1,9})", base64.urlsafe_b64decode(token).decode())
    except (binascii.Error, ValueError):
        known = None
    if known is None or int(known[1]) > count:
        raise ApiError("InvalidNextToken", "The specified NextToken is not valid.")
    return int(known[1])


def _pattern(value: str) -> re.Pattern[str]:
    parts = re.findall(r"\\.|.", value, re.DOTALL)
    special = {"*": ".*", "?": "."}
    return re.compile("".join(special.get(part, re.escape(part[-1])) for part in parts), re.DOTALL)


def _texts(row: Any, name: str, known: Values) -> list[str]:
    if name in known:
        found = known[name](row)
    else:
        kind, _, key = name.partition(":")
        tags = row.get_tags()
        found = [tag["key" if kind == "tag-key" else "value"] for tag in tags if kind != "tag" or tag["key"] == key]
    several = found if isinstance(found, list) else [found]
    return [str(each).lower() if isinstance(each, bool) else str(each) for each in several if each is not None]
