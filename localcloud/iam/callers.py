"""Who makes an API call, and which statements are theirs: from the call's credentials to moto's users and roles.

A signature is not calculated again. That a key exists, that its session token fits and has not expired, is checked; the
owner's key and those of sessions are random, so to know one is what a signature would show.
"""

from __future__ import annotations

import base64
import hmac
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from moto.core.utils import utcnow
from moto.iam.models import iam_backends
from moto.sts.models import sts_backends

from localcloud.api.calls import ApiCall
from localcloud.iam.actions import listed_tags
from localcloud.iam.policy import Principal, Statement, read_cached
from localcloud.settings import ACCOUNT, KEY_PREFIX


@dataclass(frozen=True)
class Caller:
    """A principal with its statements; `session` are those of a session policy, None when there is none.

    `name` is what refusals call it. `administrator` may do everything; `anonymous` has signed nothing.
    """

    name: str
    principal: Principal
    identity: tuple[Statement, ...] = ()
    session: tuple[Statement, ...] | None = None
    context: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    administrator: bool = False
    anonymous: bool = False


class CredentialsRefused(Exception):
    """The credentials are nobody's, or no longer good; `expired` tells which, `gone` that they are another cloud's."""

    def __init__(self, expired: bool = False, gone: bool = False) -> None:
        text = "The security token included in the request is " + ("expired" if expired else "invalid")
        super().__init__(f'{text}: of a local cloud that is gone. eval "$(./inv cloud.env)" again' if gone else text)
        self.expired, self.gone = expired, gone


def caller(call: ApiCall, key: str) -> Caller:
    """Return who makes a call to the cloud whose owner's key is `key`.

    Raises CredentialsRefused, and policy.PolicyInvalid for a policy that is none.
    """
    if not call.key:
        return Caller("anonymous", Principal(account="anonymous"), anonymous=True)
    if hmac.compare_digest(call.key.encode(), key.encode()):
        root = f"arn:aws:iam::{ACCOUNT}:root"
        return Caller(root, Principal(ACCOUNT, arn=root), administrator=True)
    if call.key.startswith(KEY_PREFIX):
        raise CredentialsRefused(gone=True)
    session = sts_backends[ACCOUNT]["aws"].get_assumed_role_from_access_key(call.key)
    if session is not None:
        return _of_session(session, call.token)
    user = iam_backends[ACCOUNT]["aws"].get_user_from_access_key_id(call.key)
    if user is None:
        raise CredentialsRefused
    context = {
        "aws:principalarn": (user.arn,),
        "aws:principaltype": ("User",),
        "aws:userid": (user.id,),
        "aws:username": (user.name,),
    }
    return Caller(user.arn, Principal(ACCOUNT, arn=user.arn), statements(user), context=context)


def _of_session(session: Any, token: str) -> Caller:
    if session.session_token != token:
        raise CredentialsRefused
    if session.expiration <= utcnow():
        raise CredentialsRefused(expired=True)
    role = _role(session.role_arn)
    tags = listed_tags(getattr(role, "tags", ()))
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
    return Caller(
        name=session.arn,
        principal=Principal(ACCOUNT, arn=session.role_arn, session_arn=session.arn),
        identity=() if role is None else statements(role),
        session=read_cached(session.policy, "session policy") if session.policy else None,
        context=context | {f"aws:principaltag/{key.lower()}": (value,) for key, value in tags.items()},
    )


def _role(arn: str) -> Any:
    roles = list(iam_backends[ACCOUNT]["aws"].roles.values())
    return next((role for role in roles if role.arn == arn), None)


def statements(owner: Any) -> tuple[Statement, ...]:
    """Return the statements of a role's or user's inline and managed policies. Raises PolicyInvalid."""
    texts = dict(owner.policies)
    for managed in owner.managed_policies.values():
        texts[managed.name] = next(version.document for version in managed.versions if version.is_default)
    return tuple(statement for name, text in texts.items() for statement in read_cached(_json(text), name))


def _json(document: Any) -> str:
    return document if isinstance(document, str) else json.dumps(document)


def trust(role_arn: str) -> tuple[Statement, ...]:
    """Return the statements of a role's trust policy, none when there is no such role. Raises PolicyInvalid."""
    role = _role(role_arn)
    return () if role is None else read_cached(_json(role.assume_role_policy_document), "trust policy")


def web_identity(claims: Mapping[str, object], key: str) -> str:
    """Return an OpenID Connect token that the cloud with this owner's key believes (HS256, RFC 7515).

    Its owner stands for every issuer: nobody else can make one.
    """
    parts: list[Mapping[str, object]] = [{"alg": "HS256", "typ": "JWT"}, claims]
    content = ".".join(base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts)
    return f"{content}.{_signature(content, key)}"


def _signature(content: str, key: str) -> str:
    mac = hmac.digest(key.encode(), content.encode(), "sha256")
    return base64.urlsafe_b64encode(mac).decode().rstrip("=")


def by_web_identity(token: str, key: str) -> Caller:
    """Return whom an OpenID Connect token speaks of, as its issuer's provider in IAM says it.

    Raises CredentialsRefused when it is no token, is not signed as `web_identity` does (the issuer can't be asked from
    here), is expired, or IAM has no such provider with its audience.
    """
    content, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(content, key).encode()):
        raise CredentialsRefused
    try:
        # Its padding is left off, and more than is needed does no harm.
        claims: dict[str, Any] = dict(json.loads(base64.urlsafe_b64decode(content.split(".")[1] + "==")))
    except (IndexError, TypeError, ValueError) as error:
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
