"""What can be reached in a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable


def reachable(start: Iterable[str], following: Callable[[str], Iterable[str]]) -> set[str]:
    """Return `start`, what follows it, what follows that, and so on; `following` returns what follows one."""
    reached: set[str] = set()
    todo = set(start)
    while todo:
        reached |= todo
        todo = {name for each in todo for name in following(each)} - reached
    return reached
