"""Reading JSON that others wrote, or an older self: what is not there, or of another kind, is empty and no error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

Object = Mapping[str, object]


def mapping(value: object) -> Object:
    """Return an object's fields; {} for whatever is no object."""
    return {str(name): each for name, each in value.items()} if isinstance(value, Mapping) else {}


def rows(value: object) -> Iterator[Object]:
    """Yield the objects of a list, without what is none."""
    yield from (mapping(each) for each in value if isinstance(each, Mapping)) if isinstance(value, list) else ()


def text(value: object) -> str:
    """Return a text, or a number's; "" for whatever is neither."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return ""
    return str(value)


def texts(value: object) -> tuple[str, ...]:
    """Return the texts of a list."""
    return tuple(text(each) for each in value if text(each)) if isinstance(value, list) else ()


def number(value: object) -> float | None:
    """Return a number that can be shown; None for what is none, is not finite, or is negative."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        known = float(value)
    except OverflowError:
        return None
    return known if math.isfinite(known) and known >= 0 else None
