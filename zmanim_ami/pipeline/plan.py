"""What a task would do, for `--dry`: the same rows that it says while doing them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """One thing that would be done: `action` (a verb) to `subject`, and why."""

    action: str
    subject: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """All that a task would do, in order; nothing of it has been done. No steps: nothing to do."""

    steps: tuple[Step, ...]
