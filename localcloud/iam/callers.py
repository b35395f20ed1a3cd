"""Who makes an API call, and which statements are theirs: from the call's credentials to moto's users and roles.

That a key exists and is active, that the signature is that of its secret, that its session token fits and has not
expired, is checked.
"""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from moto.core.utils import utcnow
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from localcloud import web_identity
from localcloud.api.calls import ApiCall
from localcloud.iam import temporary
from localcloud.iam.actions import listed_tags
from localcloud.iam.boundaries import boundary_of
from localcloud.iam.policy import Principal, Statement, read_cached
from localcloud.iam.temporary import TemporaryKey
from localcloud.settings import ACCOUNT, KEY_PREFIX, SECRET

_EVERYTHING = (Statement("the root user's rights", "0", "Allow", actions=("*",), resources=("*",)),)


@dataclass(frozen=True)
class Caller:
    """A principal with its statements; `name` is what refusals call it.

    `session` are the statements of session policies, `boundary` those of a permissions boundary, each None when there
    is none. `root` is the account's root user, whom only the policies of resources can refuse anything; `anonymous` has
    signed nothing. `assumed` is a role's session, `temporary` the key that STS made otherwise.
    """

    name: str
    principal: Principal
    identity: tuple[Statement, ...] = ()
    session: tuple[Statement, ...] | None = None
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    boundary: tuple[Statement, ...] | None = None
    root: bool = False
    anonymous: bool = False
    assumed: bool = False
    temporary: TemporaryKey | None = None


class CredentialsRefused(Exception):
    """The credentials are nobody's, or not good.

    `expired` says that they are no longer, `gone` that they are another cloud's, `forged` that the signature is wrong.
    """

    def __init__(self, expired: bool = False, gone: bool = False, forged: bool = False) -> None:
        text = "The security token included in the request is " + ("expired" if expired else "invalid")
        if gone:
            text += ': of a local cloud that is gone. eval "$(./inv cloud.env)" again'
        if forged:
            text = (
                "The request signature we calculated does not match the signature you provided. "
                "Check your AWS Secret Access Key and signing method."
            )
        super().__init__(text)
        self.expired, self.gone, self.forged = expired, gone, forged


def caller(call: ApiCall, key: str) -> Caller:
    """Return who makes a call to the cloud whose owner's key is `key`.

    Raises CredentialsRefused, and policy.PolicyInvalid for a policy that is none.
    """
    if not call.key:
        return Caller("anonymous", Principal(account="anonymous"), anonymous=True)
    made = temporary.find(call.key)
    if made is not None:
        _check(call, made.secret)
        if made.token != call.token:
            raise CredentialsRefused
        if made.expires <= utcnow():
            raise CredentialsRefused(expired=True)
        return _of_temporary(made, key)
    session = sts_backends[ACCOUNT]["aws"].get_assumed_role_from_access_key(call.key)
    if session is not None:
        _check(call, session.secret_access_key)
        return _of_session(session, call.token)
    return _of_long_term_key(call.key, key, call)


def _check(call: ApiCall, secret: str) -> None:
    if call.proof is not None and not call.proof(secret):
        raise CredentialsRefused(forged=True)


def _of_long_term_key(given: str, key: str, call: ApiCall | None = None) -> Caller:
    """Return whose a key is that does not expire: the owner's, or an IAM user's; `call` is one that it has signed."""
    if hmac.compare_digest(given.encode(), key.encode()):
        if call is not None:
            _check(call, SECRET)
        root = f"arn:aws:iam::{ACCOUNT}:root"
        return Caller(root, Principal(ACCOUNT, arn=root), _EVERYTHING, root=True)
    if given.startswith(KEY_PREFIX):
        raise CredentialsRefused(gone=True)
    backend = iam_backends[ACCOUNT]["aws"]
    user = backend.get_user_from_access_key_id(given)
    if user is None:
        raise CredentialsRefused
    access = user.get_access_key_by_id(given)
    if access.status != "Active":
        raise CredentialsRefused
    if call is not None:
        _check(call, access.secret_access_key)
    context = {
        "aws:principalarn": (user.arn,),
        "aws:principaltype": ("User",),
        "aws:userid": (user.id,),
        "aws:username": (user.name,),
    }
    identity = statements(user) + tuple(
        statement for group in backend.get_groups_for_user(user.name) for statement in statements(group)
    )
    tags = listed_tags(backend.tagger.list_tags_for_resource(user.arn)["Tags"])
    return Caller(
        user.arn, Principal(ACCOUNT, arn=user.arn), identity, context=context | _tags(tags), boundary=_boundary(user)
    )


def _tags(tags: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    return {f"aws:principaltag/{key.lower()}": (value,) for key, value in tags.items()}


def _boundary(owner: Any) -> tuple[Statement, ...] | None:
    arn = boundary_of(owner)
    return _read(temporary.managed_policies([arn])) if arn else None


def _of_temporary(made: TemporaryKey, key: str) -> Caller:
    owner = _of_long_term_key(made.owner, key)
    if not made.federated:
        return replace(owner, temporary=made)
    context = {"aws:principalarn": (made.arn,), "aws:principaltype": ("FederatedUser",)}
    return replace(
        owner,
        name=made.arn,
        principal=Principal(ACCOUNT, arn=made.arn),
        session=_read(made.policies or {}),
        context=context | {"aws:userid": (f"{ACCOUNT}:{made.federated}",)},
        root=False,
        temporary=made,
    )


def _of_session(session: Any, token: str) -> Caller:
    if session.session_token != token:
        raise CredentialsRefused
    if session.expiration <= utcnow():
        raise CredentialsRefused(expired=True)
    role = _role(session.role_arn)
    context = {
        "aws:principalarn": (session.role_arn,),
        "aws:principaltype": ("AssumedRole",),
        "aws:userid": (session.user_id,),
        "sts:rolesessionname": (session.session_name,),
    }
    if re.fullmatch(r"i-[0-9a-f]+", session.session_name):
        context["ec2:sourceinstancearn"] = (
            f"arn:aws:ec2:{session.region_name}:{ACCOUNT}:instance/{session.session_name}",
        )
    # What made the session without a call to STS (an instance's metadata service) has narrowed it by nothing.
    narrowed = getattr(session, "localcloud_policies", None)
    return Caller(
        name=session.arn,
        principal=Principal(ACCOUNT, arn=session.role_arn, session_arn=session.arn),
        identity=() if role is None else statements(role),
        session=None if narrowed is None else _read(narrowed),
        context=context | _tags(listed_tags(getattr(role, "tags", ()))),
        boundary=_boundary(role),
        assumed=True,
    )


def _role(arn: str) -> Any:
    roles = list(iam_backends[ACCOUNT]["aws"].roles.values())
    return next((role for role in roles if role.arn == arn), None)


def statements(owner: Any) -> tuple[Statement, ...]:
    """Return the statements of a role's, user's or group's inline and managed policies. Raises PolicyInvalid."""
    texts = dict(owner.policies)
    for managed in owner.managed_policies.values():
        texts[managed.name] = next(version.document for version in managed.versions if version.is_default)
    return _read(texts)


def _read(texts: Mapping[str, Any]) -> tuple[Statement, ...]:
    return tuple(statement for name, text in texts.items() for statement in read_cached(_json(text), name))


def _json(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)


def trust(role_arn: str) -> tuple[Statement, ...]:
    """Return the statements of a role's trust policy, none when there is no such role. Raises PolicyInvalid."""
    role = _role(role_arn)
    return () if role is None else read_cached(_json(role.assume_role_policy_document), "trust policy")


def by_web_identity(token: str, key: str) -> Caller:
    """Return whom an OpenID Connect token speaks of, as its issuer's provider in IAM says it.

    Raises CredentialsRefused when it is no token, is not signed as web_identity.sign does (the issuer can't be asked
    from here), is expired, or IAM has no such provider with its audience.
    """
    try:
        claims = web_identity.claims_of(token, key)
    except ValueError as error:
        raise CredentialsRefused from error
    host = str(claims.get("iss", "")).removeprefix("https://")
    provider = iam_backends[ACCOUNT]["aws"].open_id_providers.get(f"arn:aws:iam::{ACCOUNT}:oidc-provider/{host}")
    if provider is None or claims.get("aud") not in provider.client_id_list:
        raise CredentialsRefused
    expires = claims.get("exp", 0)
    if not isinstance(expires, int | float) or expires <= utcnow().timestamp():
        raise CredentialsRefused(expired=True)
    context = {
        f"{host}:{name}".lower(): (str(value),) for name, value in claims.items() if isinstance(value, str | int)
    }
    return Caller(f"{provider.arn} {claims.get('sub')}", Principal("federated", provider=provider.arn), context=context)
