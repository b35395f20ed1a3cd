"""IAM policies: reading them, and deciding whether they allow a request. No AWS, no network, no moto in here.

The rules are those of AWS's "policy evaluation logic" for one account: a Deny that applies wins, then something has to
allow. A condition whose key this cloud can't know of counts as met and is named in the decision, for an Allow and for a
Deny alike: to drop it would make a policy say less than it says.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from itertools import chain
from typing import Any, Literal

from localcloud.iam.conditions import Condition, conditions_met, read_conditions
from localcloud.iam.patterns import Lookup, Unresolved, matches, resolve

Effect = Literal["Allow", "Deny"]
Naming = Literal["direct", "role", "account", ""]
_VERSIONS = ("2012-10-17", "2008-10-17")
_ELEMENTS = {
    "Sid",
    "Effect",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Condition",
    "Principal",
    "NotPrincipal",
}


class PolicyInvalid(ValueError):
    """The text is no policy that AWS would take."""


@dataclass(frozen=True)
class Statement:
    """One statement of the policy called `policy`; `sid` is its Sid, or its number when it has none.

    Exactly one of `actions` and `not_actions` is filled; `principals` is None where a policy belongs to a principal.
    """

    policy: str
    sid: str
    effect: Effect
    actions: tuple[str, ...] = ()
    not_actions: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()
    not_resources: tuple[str, ...] = ()
    principals: Mapping[str, tuple[str, ...]] | None = None
    not_principals: Mapping[str, tuple[str, ...]] | None = None
    conditions: tuple[Condition, ...] = ()
    variables: bool = True


@dataclass(frozen=True)
class Principal:
    """Who makes a request: a user or role (`arn`), a role session (`session_arn`), an identity provider, a service."""

    account: str
    arn: str = ""
    session_arn: str = ""
    service: str = ""
    provider: str = ""


@dataclass(frozen=True)
class Request:
    """One action on one resource. `context` holds the values of each condition key, in lower case.

    `knows` says whether a key (in lower case) that is missing from `context` is known to be absent from the request.
    """

    action: str
    resource: str
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    knows: Callable[[str], bool] = lambda _key: True

    def lookup(self, key: str) -> tuple[str, ...] | None:
        """Return a key's values, () when the request has none, None when it can't be known."""
        name = key.lower()
        if name in self.context:
            return self.context[name]
        return () if self.knows(name) else None


@dataclass(frozen=True)
class Decision:
    """Whether a request is allowed, by which statement or why not, and which condition keys were taken on trust.

    `action` is the pattern of the deciding statement that fits the request's action.
    """

    allowed: bool
    reason: str
    policy: str = ""
    sid: str = ""
    action: str = ""
    undecided: tuple[str, ...] = ()


def read(text: str | Mapping[str, Any], policy: str) -> tuple[Statement, ...]:
    """Return the statements of a policy document. Raises PolicyInvalid."""
    try:
        document = json.loads(text) if isinstance(text, str) else text
        version = document.get("Version", _VERSIONS[1])
        listed = document["Statement"]
        listed = listed if isinstance(listed, list) else [listed]
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise PolicyInvalid(f"{policy}: not a JSON object with a Statement: {error}") from error
    if version not in _VERSIONS:
        raise PolicyInvalid(f"{policy}: unknown Version {version!r}")
    return tuple(_statement(each, policy, str(number), version) for number, each in enumerate(listed))


def _statement(raw: Any, policy: str, number: str, version: str) -> Statement:
    if not isinstance(raw, dict):
        raise PolicyInvalid(f"{policy}: statement {number} is no object")
    sid = str(raw.get("Sid") or number)
    if unknown := raw.keys() - _ELEMENTS:
        raise PolicyInvalid(f"{policy}: statement {sid} has unknown elements {sorted(unknown)}")
    if raw.get("Effect") not in {"Allow", "Deny"}:
        raise PolicyInvalid(f"{policy}: statement {sid} has the effect {raw.get('Effect')!r}")
    if ("Action" in raw) == ("NotAction" in raw):
        raise PolicyInvalid(f"{policy}: statement {sid} needs one of Action and NotAction")
    try:
        conditions = read_conditions(raw.get("Condition", {}))
    except ValueError as error:
        raise PolicyInvalid(f"{policy}: statement {sid}: {error}") from error
    return Statement(
        policy=policy,
        sid=sid,
        effect=raw["Effect"],
        actions=_texts(raw.get("Action", ())),
        not_actions=_texts(raw.get("NotAction", ())),
        resources=_texts(raw.get("Resource", ())),
        not_resources=_texts(raw.get("NotResource", ())),
        principals=_principals(raw["Principal"]) if "Principal" in raw else None,
        not_principals=_principals(raw["NotPrincipal"]) if "NotPrincipal" in raw else None,
        conditions=conditions,
        variables=version == _VERSIONS[0],
    )


# For texts: each is read once.
read_cached = cache(read)


def _texts(raw: Any) -> tuple[str, ...]:
    return (raw,) if isinstance(raw, str) else tuple(str(each) for each in raw)


def _principals(raw: Any) -> Mapping[str, tuple[str, ...]]:
    return {"AWS": ("*",)} if raw == "*" else {kind: _texts(value) for kind, value in raw.items()}


def decide(
    request: Request,
    principal: Principal,
    identity: Sequence[Statement],
    *,
    resource: Sequence[Statement] = (),
    session: Sequence[Statement] | None = None,
    boundary: Sequence[Statement] | None = None,
    resource_decides: bool = False,
) -> Decision:
    """Say whether `principal` may do what `request` asks.

    `identity` are the statements of its own policies, `session` those of session policies and `boundary` those of a
    permissions boundary (which only narrow), `resource` those of the resource's own policy. `resource_decides` is for
    role trust and KMS keys, where that has to allow: by naming the principal, or by leaving the decision to the
    policies of its account.
    """
    undecided: dict[str, None] = {}
    own = [*_applying(identity, request, undecided)]
    limits = {
        name: [*_applying(limit, request, undecided)]
        for name, limit in (("session policy", session), ("permissions boundary", boundary))
        if limit is not None
    }
    shared = [
        (naming, applying)
        for statement in resource
        if (naming := _names(statement, principal))
        for applying in _applying((statement,), request, undecided)
    ]
    for statement, pattern in (*own, *chain(*limits.values()), *(applying for _, applying in shared)):
        if statement.effect == "Deny":
            return _decision(False, "an explicit deny", statement, pattern, undecided)
    direct = [applying for naming, applying in shared if naming == "direct"]
    if direct:
        return _decision(True, "the resource's policy names the principal", *direct[0], undecided)
    if resource_decides and not shared:
        return Decision(False, "the resource's policy does not allow it", undecided=tuple(undecided))
    for name, applying in limits.items():
        if not applying:
            return Decision(False, f"no {name} allows it", undecided=tuple(undecided))
    # Who names a role means its sessions, within what narrows them ("Policy evaluation logic", IAM User Guide).
    granted = own + [applying for naming, applying in shared if naming == "role"]
    if granted:
        return _decision(True, "allowed", *granted[0], undecided)
    return Decision(False, "no identity-based policy allows it", undecided=tuple(undecided))


def _decision(
    allowed: bool, reason: str, statement: Statement, pattern: str, undecided: Mapping[str, None]
) -> Decision:
    return Decision(allowed, reason, statement.policy, statement.sid, pattern, tuple(undecided))


def _applying(
    statements: Sequence[Statement], request: Request, undecided: dict[str, None]
) -> Iterator[tuple[Statement, str]]:
    """Yield the statements that apply to a request, each with the action pattern that fits; note what is undecided."""
    for statement in statements:
        pattern = _action(statement, request.action)
        if pattern is None:
            continue
        lookup = partial(_lookup, request, undecided) if statement.variables else None
        if _resource(statement, request.resource, lookup) and conditions_met(
            statement.conditions, request.lookup, lookup, undecided.setdefault
        ):
            yield statement, pattern


def _lookup(request: Request, undecided: dict[str, None], key: str) -> tuple[str, ...] | None:
    values = request.lookup(key)
    if values is None:
        undecided.setdefault(key)
    return values


def _action(statement: Statement, action: str) -> str | None:
    if statement.not_actions:
        return None if any(matches(each, action, fold=True) for each in statement.not_actions) else "NotAction"
    return next((each for each in statement.actions if matches(each, action, fold=True)), None)


def _resource(statement: Statement, resource: str, lookup: Lookup | None) -> bool:
    def fits(pattern: str) -> bool:
        try:
            return matches(resolve(pattern, lookup), resource)
        except Unresolved:
            return False

    if statement.not_resources:
        return not any(fits(each) for each in statement.not_resources)
    # A trust policy has no Resource: it is about the role that it belongs to.
    return not statement.resources or any(fits(each) for each in statement.resources)


def _names(statement: Statement, principal: Principal) -> Naming:
    """Say how a resource's statement names a principal. A Deny that names an account means everybody in it."""
    if statement.not_principals is not None:
        return "" if _among(statement.not_principals, principal) else "direct"
    return _among(statement.principals or {}, principal)


def _among(principals: Mapping[str, tuple[str, ...]], principal: Principal) -> Naming:
    names = {
        "AWS": {"*", principal.session_arn or principal.arn},
        "Service": {principal.service},
        "Federated": {principal.provider},
    }
    if any((named - {""}).intersection(principals.get(kind, ())) for kind, named in names.items()):
        return "direct"
    if principal.arn and principal.arn in principals.get("AWS", ()):
        return "role"
    account = {principal.account, f"arn:aws:iam::{principal.account}:root"}
    return "account" if principal.arn and account.intersection(principals.get("AWS", ())) else ""
