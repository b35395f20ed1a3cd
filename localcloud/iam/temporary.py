"""Keys that STS makes of a user's own, or of the root user's: GetSessionToken, GetFederationToken.

moto answers both with one key for everybody, which is AWS's example and nobody's. What such a key may do: "Compare AWS
STS credentials" (IAM User Guide).
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from moto.core.responses import ActionResult
from moto.core.utils import utcnow
from moto.iam.models import iam_backends
from moto.sts.models import STSBackend, sts_backends
from moto.sts.responses import TokenResponse

from localcloud.api.one_form import RequestRefused
from localcloud.api.patches import ApiError, patch
from localcloud.settings import ACCOUNT, KEY_PREFIX

# Calls that the keys of GetSessionToken are good for among STS's; IAM takes neither kind without a second factor.
_OF_SESSION = {"AssumeRole", "GetCallerIdentity"}
_SHORTEST, _LONGEST = 900, 129600
# In characters, of a federated user's session policy.
_LONGEST_POLICY = 2048
_LONGEST_OF_ROLE = 3600
_ROOT = f"arn:aws:iam::{ACCOUNT}:root"


@dataclass(frozen=True)
class TemporaryKey:
    """A key with its secret and token, and whose it is: the long-term key that asked for it.

    `federated` is the federated user's name, "" for a key of GetSessionToken; `policies` are the texts of the session
    policies of the former, by their names.
    """

    key: str
    secret: str
    token: str
    expires: datetime
    owner: str
    federated: str = ""
    policies: Mapping[str, str] | None = None

    @property
    def arn(self) -> str:
        """The federated user's ARN."""
        return f"arn:aws:sts::{ACCOUNT}:federated-user/{self.federated}"

    def is_good_for(self, service: str, operation: str) -> bool:
        """Say whether STS and IAM take the key for this."""
        if service == "sts":
            return operation in (_OF_SESSION - {"AssumeRole"} if self.federated else _OF_SESSION)
        return service != "iam"


def find(key: str) -> TemporaryKey | None:
    """Return the temporary key of this id."""
    return _keys(sts_backends[ACCOUNT]["aws"]).get(key)


def _keys(backend: STSBackend) -> dict[str, TemporaryKey]:
    keys: dict[str, TemporaryKey] = backend.__dict__.setdefault("localcloud_keys", {})
    return keys


def managed_policies(arns: list[str]) -> dict[str, str]:
    """Return the texts of managed policies by their names; one that does not exist allows nothing."""
    known = iam_backends[ACCOUNT]["aws"].managed_policies
    texts = {}
    for arn in arns:
        versions = known[arn].versions if arn in known else []
        texts[arn.rpartition("/")[2]] = next(
            (str(version.document) for version in versions if version.is_default),
            '{"Version": "2012-10-17", "Statement": []}',
        )
    return texts


def session_policies(response: Any) -> dict[str, str] | None:
    """Return the texts of the session policies that a call to STS brings, None when it brings none."""
    arns = [str(each.get("arn") or each.get("Arn")) for each in response._get_param("PolicyArns", [])]
    texts = managed_policies(arns)
    if policy := response._get_param("Policy"):
        texts["session policy"] = str(policy)
    return texts or None


@patch(TokenResponse.get_session_token)
def get_session_token(response: Any) -> ActionResult:
    """GetSessionToken: a key that may do what its owner may."""
    return ActionResult({"Credentials": _make(response, 43200)})


@patch(TokenResponse.get_federation_token)
def get_federation_token(response: Any) -> ActionResult:
    """GetFederationToken: a key that may do what its owner and the session's policies may, both."""
    name = str(response._get_param("Name"))
    if len(response._get_param("Policy") or "") > _LONGEST_POLICY:
        raise ApiError(
            "ValidationError",
            "1 validation error detected: Value at 'policy' failed to satisfy constraint: Member must have length less"
            f" than or equal to {_LONGEST_POLICY}",
        )
    shown = _make(response, 43200, federated=name, policies=session_policies(response) or {})
    user = {"FederatedUserId": f"{ACCOUNT}:{name}", "Arn": TemporaryKey("", "", "", utcnow(), "", name).arn}
    return ActionResult({"Credentials": shown, "FederatedUser": user, "PackedPolicySize": 6})


def _make(response: Any, seconds: int, **more: Any) -> dict[str, Any]:
    seconds = response._get_int_param("DurationSeconds", seconds)
    if not _SHORTEST <= seconds <= _LONGEST:
        raise ApiError(
            "ValidationError",
            f"1 validation error detected: Value '{seconds}' at 'durationSeconds' failed to satisfy constraint:"
            f" Member must have value between {_SHORTEST} and {_LONGEST}",
        )
    made = TemporaryKey(
        key="ASIA" + secrets.token_hex(8).upper(),
        secret=secrets.token_urlsafe(30),
        token=secrets.token_urlsafe(120),
        expires=utcnow() + timedelta(seconds=seconds),
        owner=response.normalized_request.environ["localcloud.call"].key,
        **more,
    )
    _keys(response.backend)[made.key] = made
    return {
        "AccessKeyId": made.key,
        "SecretAccessKey": made.secret,
        "SessionToken": made.token,
        "Expiration": made.expires,
    }


@patch(TokenResponse.assume_role, wraps=True)
def assume_role(original: Any, response: Any) -> ActionResult:
    """AssumeRole of a role that exists, with the managed policies that narrow the session; moto drops them.

    Raises RequestRefused (AccessDenied), ApiError (ValidationError).
    """
    arn = str(response._get_param("RoleArn"))
    role = next((each for each in iam_backends[ACCOUNT]["aws"].roles.values() if each.arn == arn), None)
    if role is None:  # the owner alone comes here for one: to all others no policy has allowed it
        text = f"User: {_ROOT} is not authorized to perform: sts:AssumeRole on resource: {arn}"
        raise RequestRefused(text, "AccessDenied", 403)
    longest = int(role.max_session_duration or _LONGEST_OF_ROLE)
    if response._get_int_param("DurationSeconds", 0) > longest:
        raise ApiError(
            "ValidationError", "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        )
    return _narrowed(original, response)


@patch(TokenResponse.assume_role_with_web_identity, wraps=True)
def assume_role_with_web_identity(original: Any, response: Any) -> ActionResult:
    """AssumeRoleWithWebIdentity, with the managed policies that narrow the session."""
    return _narrowed(original, response)


def _narrowed(original: Any, response: Any) -> ActionResult:
    policies = session_policies(response)
    result: ActionResult = original(response)
    made: Any = result.result
    made["Credentials"].localcloud_policies = policies
    return result


@patch(TokenResponse.get_caller_identity, wraps=True)
def answer_get_caller_identity(original: Any, response: Any) -> ActionResult:
    """GetCallerIdentity, of the account's owner too, whose key moto takes for none."""
    call = response.normalized_request.environ.get("localcloud.call")  # None of what moto is asked by itself
    if call is not None and call.key.startswith(KEY_PREFIX):  # another cloud's comes nowhere
        return ActionResult({"UserId": ACCOUNT, "Account": ACCOUNT, "Arn": _ROOT})
    result: ActionResult = original(response)
    return result


@patch(STSBackend.get_caller_identity, wraps=True)
def get_caller_identity(original: Any, backend: STSBackend, access_key_id: str, region: str) -> Any:
    """Say who has a key; moto knows no temporary keys, and calls them user/moto."""
    made = find(access_key_id)
    if made is not None and made.federated:
        return f"{ACCOUNT}:{made.federated}", made.arn, ACCOUNT
    key = made.owner if made else access_key_id
    if key.startswith(KEY_PREFIX):
        return ACCOUNT, _ROOT, ACCOUNT
    return original(backend, key, region)
