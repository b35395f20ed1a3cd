"""KMS's signatures: moto hashes what is hashed already, takes messages of any length, and says False where KMS refuses.

"Sign" and "Verify" (KMS's API reference); the algorithms: "Key spec reference" (KMS Developer Guide).
"""

from __future__ import annotations

import base64
import json
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, utils
from moto.kms.models import Key
from moto.kms.responses import KmsResponse

from localcloud.api.patches import ApiError, patch
from localcloud.services.kms_keys import check_use

_LONGEST = 4096
_HASHES: dict[str, hashes.HashAlgorithm] = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
_TYPES = ("RAW", "DIGEST")
_ALGORITHMS = tuple(
    [f"RSASSA_{padded}_SHA_{bits}" for padded in ("PSS", "PKCS1_V1_5") for bits in _HASHES]
    + [f"ECDSA_SHA_{bits}" for bits in _HASHES]
)


@patch(KmsResponse.sign)
def sign(response: Any) -> str:
    """Sign: the signature of a message, or of a digest as it is."""
    key, algorithm, digest, how = _asked(response, "sign")
    signature = key.private_key.private_key.sign(digest, *how)  # type: ignore[attr-defined]
    return json.dumps(
        {"KeyId": key.arn, "Signature": base64.b64encode(signature).decode(), "SigningAlgorithm": algorithm}
    )


@patch(KmsResponse.verify)
def verify(response: Any) -> str:
    """Verify: whether a signature is that of a message or digest; refused when it is not."""
    key, algorithm, digest, how = _asked(response, "verify")
    try:
        signature = base64.b64decode(response._get_param("Signature") or "")
    except ValueError as error:
        raise ApiError("SerializationException", "Signature is no base64") from error
    if not signature:
        raise _invalid("Value at 'signature'", "have length greater than or equal to 1")
    try:
        key.private_key.private_key.public_key().verify(signature, digest, *how)  # type: ignore[attr-defined]
    except InvalidSignature as error:
        raise ApiError("KMSInvalidSignatureException", "") from error
    return json.dumps({"KeyId": key.arn, "SignatureValid": True, "SigningAlgorithm": algorithm})


def _asked(response: Any, verb: str) -> tuple[Key, str, bytes, tuple[Any, ...]]:
    """Return the key, the algorithm's name, the digest, and how cryptography is told the algorithm."""
    key_id, message = str(response._get_param("KeyId")), response._get_param("Message") or b""
    algorithm, kind = str(response._get_param("SigningAlgorithm")), response._get_param("MessageType") or "RAW"
    response._validate_key_id(key_id)
    key: Key = response.kms_backend.describe_key(key_id)
    if kind not in _TYPES:
        raise _invalid(f"Value '{kind}' at 'messageType'", f"satisfy enum value set: [{', '.join(_TYPES)}]")
    if not 1 <= len(message) <= _LONGEST:
        wanted = f"have length {'less than or equal to 4096' if message else 'greater than or equal to 1'}"
        raise _invalid("Value at 'message'", wanted)
    if algorithm not in _ALGORITHMS:
        wanted = f"satisfy enum value set: [{', '.join(_ALGORITHMS)}]"
        raise _invalid(f"Value '{algorithm}' at 'signingAlgorithm'", wanted)
    check_use(key, "SIGN_VERIFY", verb.title())
    if algorithm not in key.signing_algorithms:
        raise ApiError(
            "InvalidKeyUsageException", f"Algorithm {algorithm} is incompatible with key spec {key.key_spec}."
        )
    hashed = _HASHES[algorithm[-3:]]
    if kind == "DIGEST" and len(message) != hashed.digest_size:
        raise ApiError("ValidationException", f"Digest is invalid length for algorithm {algorithm}.")
    if kind == "RAW":
        made = hashes.Hash(hashed)
        made.update(message)
        message = made.finalize()
    whole = utils.Prehashed(hashed)
    if algorithm.startswith("ECDSA"):
        return key, algorithm, message, (ec.ECDSA(whole),)
    pads = padding.PSS(padding.MGF1(hashed), hashed.digest_size) if "_PSS_" in algorithm else padding.PKCS1v15()
    return key, algorithm, message, (pads, whole)


def _invalid(what: str, wanted: str) -> ApiError:
    return ApiError(
        "ValidationException", f"1 validation error detected: {what} failed to satisfy constraint: Member must {wanted}"
    )
