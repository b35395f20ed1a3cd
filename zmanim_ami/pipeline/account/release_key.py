"""The key that signs an environment's release channel: asymmetric, in KMS, so that nobody ever holds its private half.

Its public half goes into the image. Each environment has its own: who may publish to one signs nothing for another.
"""

from __future__ import annotations

import base64
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.version import Version

SPEC: Final = "ECC_NIST_P256"
ALGORITHM: Final = "ECDSA_SHA_256"


def alias(environment: str) -> str:
    """Return the name of an environment's key."""
    return f"alias/zmanim-release-{environment}"


def find(clients: aws.Clients, environment: str) -> bytes | None:
    """Return the public key (DER, SubjectPublicKeyInfo) of an environment, or None when it has none.

    Raises `release-key-unfit`, and botocore's errors.
    """
    answer = aws.unless_refused(lambda: clients.kms.get_public_key(KeyId=alias(environment)), "NotFoundException")
    if answer is None:
        return None
    offered = answer.get("SigningAlgorithms", [])
    if ALGORITHM not in offered:
        raise Error(
            f"the KMS key {alias(environment)} can't sign releases",
            code="release-key-unfit",
            expected=f"a key of {SPEC}, which signs by {ALGORITHM}",
            found=f"one that signs by {', '.join(offered) or 'nothing'}",
            fix="give the alias to a key of that kind; account.apply makes one when there is no such alias",
        )
    return answer["PublicKey"]


def plan(clients: aws.Clients, environment: str) -> Iterator[Change]:
    """Yield the key, where an environment has none. Raises as `find` does."""
    if find(clients, environment) is None:
        reason = "there is none to sign the API's releases with"
        yield Change("create", f"KMS key {alias(environment)}", reason, partial(create, clients, environment))


def create(clients: aws.Clients, environment: str) -> None:
    """Make an environment's key and give it its name. Raises botocore's errors."""
    made = clients.kms.create_key(
        KeySpec=SPEC,
        KeyUsage="SIGN_VERIFY",
        Description=f"zmanim: signs the API's releases of {environment}",
        Tags=[{"TagKey": "zmanim:environment", "TagValue": environment}],
    )
    with aws.ignoring("AlreadyExistsException"):  # the answer to an earlier attempt of this call was lost
        clients.kms.create_alias(AliasName=alias(environment), TargetKeyId=made["KeyMetadata"]["KeyId"])


def public_keys(clients: aws.Clients, environments: Sequence[str]) -> dict[str, str]:
    """Return the public keys (PEM) of those environments that have one, and say which have none.

    Raises `release-key-unfit`, aws's errors.
    """
    keys: dict[str, str] = {}
    for environment in environments:
        with aws.translate_errors(f"asking for the key {alias(environment)}"):
            public_key = find(clients, environment)
        if public_key is None:
            say(f"there is no {alias(environment)}: an instance in {environment} will follow no release channel")
        else:
            keys[environment] = pem(public_key)
    return keys


def pem(der: bytes) -> str:
    """Return a public key as OpenSSL reads it."""
    lines = "\n".join(textwrap.wrap(base64.b64encode(der).decode(), 64))
    return f"-----BEGIN PUBLIC KEY-----\n{lines}\n-----END PUBLIC KEY-----\n"


def write(root: Path, version: Version, keys: Mapping[str, str], serials: Mapping[str, int]) -> str:
    """Write the keys, each with its channel's newest serial, to a directory of this build and return it.

    With none, return nothing.
    """
    directory = root / "build" / "release-keys" / str(version)
    if directory.exists():
        shutil.rmtree(directory)
    if not keys:
        return ""
    directory.mkdir(parents=True)
    for environment, key in keys.items():
        (directory / f"{environment}.pem").write_text(key)
        (directory / f"{environment}.serial").write_text(f"{serials[environment]}\n")
    return str(directory.absolute())


def sign(clients: aws.Clients, environment: str, payload: bytes) -> bytes:
    """Return the signature (DER) of a payload of at most 4096 bytes. Raises `release-key-missing`, aws's errors."""
    with aws.translate_errors(f"signing with {alias(environment)}"):
        try:
            answer = clients.kms.sign(
                KeyId=alias(environment), Message=payload, MessageType="RAW", SigningAlgorithm=ALGORITHM
            )
        except clients.kms.exceptions.NotFoundException as error:
            raise Error(
                f"{environment} has no key to sign releases with",
                code="release-key-missing",
                expected=f"the KMS key {alias(environment)}",
                found="none",
                fix=f"./inv account.apply --environment {environment}, then build and launch an image that knows it",
            ) from error
    return answer["Signature"]


def is_signed(clients: aws.Clients, environment: str, payload: bytes, signature: bytes) -> bool:
    """Return whether a signature is this environment's key's. Raises aws's errors."""
    with aws.translate_errors(f"verifying with {alias(environment)}"):
        answer = aws.unless_refused(
            lambda: clients.kms.verify(
                KeyId=alias(environment),
                Message=payload,
                MessageType="RAW",
                Signature=signature,
                SigningAlgorithm=ALGORITHM,
            ),
            "KMSInvalidSignatureException",
        )
    return answer is not None and answer["SignatureValid"]
