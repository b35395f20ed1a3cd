"""One change of an account: what `account.plan` shows and `account.apply` makes."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from contextlib import redirect_stderr
from dataclasses import dataclass, field

from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.visibility import WAITING


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


def settle(clients: aws.Clients, changes: Sequence[Change], plan: Callable[[], Sequence[Change]]) -> None:
    """Wait until `plan`, which gave the changes that were made, asks for none of them any more; say when it still does.

    Raises as `plan` does.
    """
    done = {(change.action, change.resource) for change in changes if change.do}
    still: list[str] = []

    def look() -> bool:
        # It has said before what it leaves alone; what it waits for is said.
        with redirect_stderr(io.StringIO()) as repeated:
            still[:] = [f"{each.action} {each.resource}" for each in plan() if (each.action, each.resource) in done]
        for line in repeated.getvalue().splitlines():
            if line.startswith(WAITING):
                say(line)
        return not still

    if done and not clients.written.settled("what was made", look):
        say(f"a plan still asks for: {'; '.join(still)}")
