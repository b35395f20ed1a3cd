"""Decisions made again: which actions of a policy were needed, from the journal of decisions (authorization.jsonl).

To take an action out of a statement and run everything again, for each action, would take days. Every request that was
decided is in the journal with all that the decision was made from, so the decision itself can be made again without it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from localcloud.iam.conditions import knows
from localcloud.iam.policy import Principal, Request, Statement, decide


@dataclass(frozen=True)
class RecordedRequest:
    """A request of a role that was allowed by one of its own policies."""

    role: str
    request: Request


@dataclass(frozen=True)
class Action:
    """One action of one statement of a role's policy."""

    role: str
    policy: str
    sid: str
    action: str


def read_record(path: Path) -> list[RecordedRequest]:
    """Return every request in a journal that was allowed, and not by the resource's own policy."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    return [
        _recorded_request(entry)
        for entry in entries
        if entry["decision"]["allowed"] and entry["decision"]["reason"] == "allowed"
    ]


def _recorded_request(entry: Mapping[str, Any]) -> RecordedRequest:
    action = str(entry["action"])
    context = {key: tuple(values) for key, values in entry["context"].items()}
    request = Request(action, entry["resource"], context, lambda key: knows(key, action))
    return RecordedRequest(entry["role"], request)


def unneeded(policies: Mapping[str, Sequence[Statement]], record: Iterable[RecordedRequest]) -> list[Action]:
    """Return the actions without which every request in `record` would still be allowed; `policies` are by role.

    Deny statements have none: without one nothing fails.
    """
    by_role: dict[str, list[Request]] = {}
    for recorded in record:
        by_role.setdefault(recorded.role, []).append(recorded.request)
    return [
        Action(role, statement.policy, statement.sid, action)
        for role, statements in policies.items()
        for number, statement in enumerate(statements)
        if statement.effect == "Allow"
        for action in statement.actions
        if not _missed(statements, number, action, by_role.get(role, []))
    ]


def _missed(statements: Sequence[Statement], number: int, action: str, requests: Sequence[Request]) -> bool:
    """Say whether one of the requests is refused when a statement no longer has an action."""
    rest = tuple(each for each in statements[number].actions if each != action)
    changed = [*statements[:number], *statements[number + 1 :]]
    if rest:
        changed.insert(number, replace(statements[number], actions=rest))
    return any(not _allowed(changed, request) for request in requests if _allowed(statements, request))


def _allowed(statements: Sequence[Statement], request: Request) -> bool:
    return decide(request, Principal("", arn=request.context.get("aws:principalarn", ("",))[0]), statements).allowed
