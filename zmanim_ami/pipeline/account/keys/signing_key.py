"""Keys that sign: asymmetric, in KMS, so that nobody ever holds the private half; each by its alias."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from support.errors import Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change

SPEC: Final = "ECC_NIST_P256"
ALGORITHM: Final = "ECDSA_SHA_256"


@dataclass(frozen=True)
class Key:
    """A key by its alias; `what` is what it signs, `environment` whose it is and what account.apply makes it with."""

    alias: str
    what: str
    environment: str


def find(clients: aws.Clients, key: Key) -> bytes | None:
    """Return the public key (DER, SubjectPublicKeyInfo), or None when there is no such alias.

    Raises `signing-key-unfit`, and botocore's errors.
    """
    answer = aws.unless_refused(lambda: clients.kms.get_public_key(KeyId=key.alias), "NotFoundException")
    if answer is None:
        return None
    offered = answer.get("SigningAlgorithms", [])
    if ALGORITHM not in offered:
        raise Error(
            f"the KMS key {key.alias} can't sign {key.what}",
            code="signing-key-unfit",
            expected=f"a key of {SPEC}, which signs by {ALGORITHM}",
            found=f"one that signs by {', '.join(offered) or 'nothing'}",
            fix="give the alias to a key of that kind; account.apply makes one when there is no such alias",
        )
    return answer["PublicKey"]


def plan(clients: aws.Clients, key: Key) -> Iterator[Change]:
    """Yield the key, where there is none. Raises as `find` does."""
    if find(clients, key) is None:
        reason = f"there is none to sign {key.what} with"
        yield Change("create", f"KMS key {key.alias}", reason, partial(create, clients, key))


def create(clients: aws.Clients, key: Key) -> None:
    """Make a key and give it its name. Raises botocore's errors."""
    made = clients.kms.create_key(
        KeySpec=SPEC,
        KeyUsage="SIGN_VERIFY",
        Description=f"zmanim: signs {key.what}",
        Tags=[{"TagKey": "zmanim:environment", "TagValue": key.environment}],
    )
    with aws.ignoring("AlreadyExistsException"):  # the answer to an earlier attempt of this call was lost
        clients.kms.create_alias(AliasName=key.alias, TargetKeyId=made["KeyMetadata"]["KeyId"])


def sign(clients: aws.Clients, key: Key, payload: bytes) -> bytes:
    """Return the signature (DER) of a payload of at most 4096 bytes. Raises `signing-key-missing`, aws's errors."""
    with aws.translate_errors(f"signing with {key.alias}"):
        try:
            answer = clients.kms.sign(KeyId=key.alias, Message=payload, MessageType="RAW", SigningAlgorithm=ALGORITHM)
        except clients.kms.exceptions.NotFoundException as error:
            raise Error(
                f"there is no key to sign {key.what} with",
                code="signing-key-missing",
                expected=f"the KMS key {key.alias}",
                found="none",
                fix=f"./inv account.apply --environment {key.environment}",
            ) from error
    return answer["Signature"]


def is_signed(clients: aws.Clients, key: Key, payload: bytes, signature: bytes) -> bool:
    """Return whether a signature is this key's. Raises aws's errors."""
    with aws.translate_errors(f"verifying with {key.alias}"):
        answer = aws.unless_refused(
            lambda: clients.kms.verify(
                KeyId=key.alias,
                Message=payload,
                MessageType="RAW",
                Signature=signature,
                SigningAlgorithm=ALGORITHM,
            ),
            "KMSInvalidSignatureException",
        )
    return answer is not None and answer["SignatureValid"]
