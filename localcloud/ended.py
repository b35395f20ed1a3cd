"""Instances that have ended are shown for a while: "usually about an hour" (the user guide, "Terminate instances")."""

from __future__ import annotations

import time
from typing import Any

SECONDS = 3600.0


def note_end(instance: Any) -> None:
    """Note that an instance has ended now."""
    instance.ended_at = time.monotonic()


def shown(reservations: list[Any]) -> list[Any]:
    """Return the reservations (copies of moto's) without the instances that ended long ago."""
    for each in reservations:
        each.instances = [instance for instance in each.instances if not _gone(instance)]
    return [each for each in reservations if each.instances]


def _gone(instance: Any) -> bool:
    ended_at = getattr(instance, "ended_at", None)
    return ended_at is not None and time.monotonic() - ended_at > SECONDS
