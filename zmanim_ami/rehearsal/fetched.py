"""What a rehearsal fetched from outside: the connections of its machines, added up by name."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from localcloud.net.egress import Passage

_CLOSED = "closed"


@dataclass(frozen=True)
class Fetched:
    """What was asked for by one name: connections, bytes received, and how those ended that did not end well."""

    name: str
    connections: int
    received: int
    problems: tuple[str, ...]


def by_name(passages: Iterable[Passage]) -> tuple[Fetched, ...]:
    """Add connections up by the name that they asked for, in alphabetical order; "" is who named nobody."""
    grouped: dict[str, list[Passage]] = {}
    for passage in passages:
        grouped.setdefault(passage.name.lower().removesuffix("."), []).append(passage)
    return tuple(
        Fetched(
            name=name,
            connections=len(found),
            received=sum(passage.received for passage in found),
            problems=tuple(dict.fromkeys(passage.ended for passage in found if passage.ended != _CLOSED)),
        )
        for name, found in sorted(grouped.items())
    )
