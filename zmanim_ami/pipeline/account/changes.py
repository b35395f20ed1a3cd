"""One change of an account: what `account.plan` shows and `account.apply` makes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from support.progress import say
from zmanim_ami.pipeline import aws


@dataclass(frozen=True)
class Change:
    """One thing that `apply` would do, and why; `do` does it. Without `do` it is left to a person: a click, mostly."""

    action: str
    resource: str
    reason: str
    do: Callable[[], object] | None = field(default=None, repr=False, compare=False)


def apply(changes: Sequence[Change]) -> None:
    """Do the changes one after the other, saying each. What is done stays done when a later one fails: plan again.

    Raises aws's errors.
    """
    for change in changes:
        if change.do is None:
            say(f"left to you: {change.action} {change.resource} ({change.reason})")
            continue
        say(f"{change.action} {change.resource} ({change.reason})")
        with aws.translate_errors(f"doing: {change.action} {change.resource}"):
            change.do()
