"""KMS's keys: their policies and aliases, what can't be done with them in their state, and how their deletion is told.

moto takes any text for a policy, and encrypts by keys that are disabled, or that are there for signatures.
"""

from __future__ import annotations

import json
import re
from typing import Any

from moto.kms.models import Key, KmsBackend
from moto.kms.responses import KmsResponse

from localcloud.api.one_form import RequestRefused
from localcloud.api.patches import ApiError, patch
from localcloud.iam.policy import PolicyInvalid, read

_OF_AWS = "alias/aws/"
_SHORTEST, _LONGEST = 7, 30
_PRINCIPAL = re.compile(r"arn:aws:(iam|sts)::\d{12}:(root|(user|role|federated-user|assumed-role)/.+)")


def check_state(key: Key) -> None:
    """Refuse the use of a key that is not enabled. Raises ApiError (DisabledException, KMSInvalidStateException)."""
    if key.key_state == "Disabled":
        raise ApiError("DisabledException", f"{key.arn} is disabled.")
    if key.key_state != "Enabled":
        raise ApiError("KMSInvalidStateException", f"{key.arn} is pending deletion.")


def check_use(key: Key, usage: str, operation: str) -> None:
    """Refuse what a key is not for, or not for now. Raises ApiError (and InvalidKeyUsageException)."""
    check_state(key)
    if (key.key_usage or "ENCRYPT_DECRYPT") != usage:
        raise ApiError(
            "InvalidKeyUsageException", f"{key.arn} key usage is {key.key_usage} which is not valid for {operation}."
        )


def _check_policy(text: str | None) -> None:
    """Refuse what is no policy: every later call on the key would be decided by it."""
    try:
        statements = read(text or "", "key policy")
    except PolicyInvalid as error:
        raise ApiError("MalformedPolicyDocumentException", "The new key policy is not valid JSON") from error
    if not statements or any(each.principals is None and each.not_principals is None for each in statements):
        raise ApiError("MalformedPolicyDocumentException", "Policy contains a statement with no principal.")


@patch(KmsResponse.create_key, wraps=True)
def create_key(original: Any, response: Any) -> Any:
    """CreateKey, with a policy that is one when it names any."""
    if response._get_param("Policy") is not None:
        _check_policy(response._get_param("Policy"))
    return original(response)


@patch(KmsResponse.put_key_policy, wraps=True)
def put_key_policy(original: Any, response: Any) -> Any:
    """PutKeyPolicy, of a policy that is one."""
    response._validate_cmk_id(response._get_param("KeyId"))
    _check_policy(response._get_param("Policy"))
    return original(response)


@patch(KmsResponse._set_alias, wraps=True)
def set_alias(original: Any, response: Any, update: bool = False) -> Any:
    """CreateAlias and UpdateAlias; moto knows some of the names that are AWS's own."""
    if str(response._get_param("AliasName")).startswith(_OF_AWS):
        raise RequestRefused(f"{_OF_AWS} is reserved for AWS managed keys.", "NotAuthorizedException")
    return original(response, update=update)


@patch(KmsResponse.get_public_key, wraps=True)
def get_public_key(original: Any, response: Any) -> str:
    """GetPublicKey of a key that has one, whose ARN it says."""
    key = _key(response)
    check_state(key)
    if key.key_spec == "SYMMETRIC_DEFAULT" or key.key_spec.startswith("HMAC"):
        raise ApiError("UnsupportedOperationException", f"{key.arn} is no asymmetric key.")
    return json.dumps({**json.loads(original(response)), "KeyId": key.arn, "KeySpec": key.key_spec})


@patch(KmsResponse.schedule_key_deletion, wraps=True)
def schedule_key_deletion(original: Any, response: Any) -> str:
    """ScheduleKeyDeletion of a key that is not to be deleted yet; says what it has become."""
    given = response._get_param("PendingWindowInDays")
    days = _LONGEST if given is None else int(given)
    if not _SHORTEST <= days <= _LONGEST:
        raise ApiError("ValidationException", f"PendingWindowInDays must be between {_SHORTEST} and {_LONGEST}.")
    response._validate_cmk_id(response._get_param("KeyId"))
    key = _key(response)
    if key.key_state == "PendingDeletion":
        raise ApiError("KMSInvalidStateException", f"{key.arn} is pending deletion.")
    shown = json.loads(original(response))
    return json.dumps({**shown, "KeyId": key.arn, "KeyState": key.key_state, "PendingWindowInDays": days})


@patch(KmsResponse.create_grant, wraps=True)
def create_grant(original: Any, response: Any) -> Any:
    """CreateGrant to a principal, by its ARN; what it allows is decided with the key's policy (iam/)."""
    check_state(_key(response))
    if not _PRINCIPAL.fullmatch(str(response._get_param("GranteePrincipal"))):
        raise ApiError(
            "InvalidArnException", f"ARN does not refer to a valid principal: {response._get_param('GranteePrincipal')}"
        )
    return original(response)


def _key(response: Any) -> Key:
    name = str(response._get_param("KeyId"))
    response._validate_key_id(name)
    key: Key = response.kms_backend.describe_key(name)
    return key


@patch(KmsBackend.encrypt, wraps=True)
def encrypt(original: Any, backend: Any, key_id: str, plaintext: bytes, encryption_context: dict[str, str]) -> Any:
    """Encrypt by a key that is for it; what makes keys for data comes through here too."""
    check_use(backend.describe_key(key_id), "ENCRYPT_DECRYPT", "Encrypt")
    return original(backend, key_id, plaintext, encryption_context)


@patch(KmsBackend.decrypt, wraps=True)
def decrypt(original: Any, backend: Any, *arguments: Any, **given: Any) -> Any:
    """Decrypt by a key that is enabled."""
    plaintext, arn = original(backend, *arguments, **given)
    check_use(backend.describe_key(arn), "ENCRYPT_DECRYPT", "Decrypt")
    return plaintext, arn
