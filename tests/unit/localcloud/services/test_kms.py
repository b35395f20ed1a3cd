"""KMS's signatures, checked by somebody else than KMS."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

from tests.support.localcloud.iam import IamLab, iam_lab, refused

MESSAGE = b"a message"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[IamLab]:
    with iam_lab(tmp_path) as made:
        yield made


def made(kms: Any, spec: str = "ECC_NIST_P256", usage: str = "SIGN_VERIFY") -> str:
    return str(kms.create_key(KeySpec=spec, KeyUsage=usage)["KeyMetadata"]["KeyId"])


@pytest.mark.incident(
    "a key with a text for a policy was made, and every later call on it was refused, its owner's too"
)
def test_what_is_no_policy_becomes_no_key_s(lab: IamLab) -> None:
    kms = lab.client("kms")
    assert refused(kms.create_key, Policy="my policy") == "MalformedPolicyDocumentException"
    assert kms.list_keys()["Keys"] == []
    key = made(kms)
    assert (
        refused(kms.put_key_policy, KeyId=key, PolicyName="default", Policy="{}") == "MalformedPolicyDocumentException"
    )
    assert kms.get_key_policy(KeyId=key, PolicyName="default")["Policy"]


def test_a_name_of_no_algorithm_and_no_signature_are_no_values(lab: IamLab) -> None:
    kms = lab.client("kms")
    given = {"KeyId": made(kms), "Message": MESSAGE}
    assert refused(kms.sign, **given, SigningAlgorithm="ECDSA_SHA_1") == "ValidationException"
    asked = {**given, "SigningAlgorithm": "ECDSA_SHA_256", "Signature": b""}
    assert refused(kms.verify, **asked) == "ValidationException"


@pytest.mark.incident("what a digest of 32 bytes was signed as nobody else could verify: it was hashed again")
@pytest.mark.parametrize(
    ("spec", "algorithm"),
    [
        ("ECC_NIST_P256", "ECDSA_SHA_256"),
        ("ECC_NIST_P384", "ECDSA_SHA_384"),
        ("ECC_NIST_P521", "ECDSA_SHA_512"),
        ("RSA_2048", "RSASSA_PSS_SHA_256"),
        ("RSA_2048", "RSASSA_PKCS1_V1_5_SHA_512"),
    ],
)
def test_a_signature_of_a_message_is_that_of_its_digest_and_stands_without_kms(
    lab: IamLab, spec: str, algorithm: str
) -> None:
    kms = lab.client("kms")
    asked = {"KeyId": made(kms, spec), "SigningAlgorithm": algorithm}
    name = f"sha{algorithm[-3:]}"
    digest = hashlib.new(name, MESSAGE).digest()
    hashed = getattr(hashes, name.upper())()
    public = load_der_public_key(kms.get_public_key(KeyId=asked["KeyId"])["PublicKey"])
    raw, hashed_before = {"Message": MESSAGE}, {"Message": digest, "MessageType": "DIGEST"}
    for said, other in ((raw, hashed_before), (hashed_before, raw)):
        signature = kms.sign(**asked, **said)["Signature"]
        if isinstance(public, ec.EllipticCurvePublicKey):
            public.verify(signature, MESSAGE, ec.ECDSA(hashed))
        else:
            assert isinstance(public, rsa.RSAPublicKey)
            pss = padding.PSS(padding.MGF1(hashed), hashed.digest_size)
            public.verify(signature, MESSAGE, pss if "PSS" in algorithm else padding.PKCS1v15(), hashed)
        for verified in (said, other):
            assert kms.verify(**asked, **verified, Signature=signature)["SignatureValid"] is True


def test_a_signature_that_is_none_is_refused_and_not_called_false(lab: IamLab) -> None:
    kms = lab.client("kms")
    asked = {"KeyId": made(kms), "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.sign(**asked, Message=MESSAGE)["Signature"]
    for message, given in ((b"another", signature), (MESSAGE, b"garbage"), (MESSAGE, signature[:-1])):
        assert refused(kms.verify, **asked, Message=message, Signature=given) == "KMSInvalidSignatureException"
    other = {**asked, "KeyId": made(kms)}
    assert refused(kms.verify, **other, Message=MESSAGE, Signature=signature) == "KMSInvalidSignatureException"


def test_a_message_has_4096_bytes_at_most_and_a_digest_those_of_its_algorithm(lab: IamLab) -> None:
    kms = lab.client("kms")
    asked = {"KeyId": made(kms), "SigningAlgorithm": "ECDSA_SHA_256"}
    signature = kms.sign(**asked, Message=b"x" * 4096)["Signature"]
    assert kms.verify(**asked, Message=b"x" * 4096, Signature=signature)["SignatureValid"]
    for message, kind in ((b"x" * 4097, "RAW"), (b"", "RAW"), (b"x" * 31, "DIGEST"), (b"x" * 33, "DIGEST")):
        assert refused(kms.sign, **asked, Message=message, MessageType=kind) == "ValidationException"
        verified = {**asked, "Message": message, "MessageType": kind, "Signature": signature}
        assert refused(kms.verify, **verified) == "ValidationException"


def test_a_key_signs_with_its_own_algorithms_while_it_is_enabled(lab: IamLab) -> None:
    kms = lab.client("kms")
    key = made(kms)
    asked = {"KeyId": key, "SigningAlgorithm": "ECDSA_SHA_256", "Message": MESSAGE}
    assert refused(kms.sign, **{**asked, "SigningAlgorithm": "ECDSA_SHA_384"}) == "InvalidKeyUsageException"
    assert refused(kms.sign, **{**asked, "KeyId": made(kms, "SYMMETRIC_DEFAULT", "ENCRYPT_DECRYPT")}) == (
        "InvalidKeyUsageException"
    )
    kms.disable_key(KeyId=key)
    assert refused(kms.sign, **asked) == "DisabledException"
    kms.enable_key(KeyId=key)
    kms.create_alias(AliasName="alias/own", TargetKeyId=key)
    assert kms.sign(**{**asked, "KeyId": "alias/own"})["KeyId"].endswith(key)
    kms.schedule_key_deletion(KeyId=key)
    assert refused(kms.sign, **asked) == "KMSInvalidStateException"
