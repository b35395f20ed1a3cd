"""The key that signs an environment's release channel. Its public half goes into the image.

Each environment has its own: who may publish to one signs nothing for another.
"""

from __future__ import annotations

import base64
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.keys import signing_key
from zmanim_ami.pipeline.account.keys.signing_key import Key
from zmanim_ami.pipeline.version import Version


def of(environment: str) -> Key:
    """Return an environment's key."""
    return Key(f"alias/zmanim-release-{environment}", f"the API's releases of {environment}", environment)


def public_keys(clients: aws.Clients, environments: Sequence[str]) -> dict[str, str]:
    """Return the public keys (PEM) of those environments that have one, and say which have none.

    Raises `signing-key-unfit`, aws's errors.
    """
    keys: dict[str, str] = {}
    for environment in environments:
        key = of(environment)
        with aws.translate_errors(f"asking for the key {key.alias}"):
            public_key = signing_key.find(clients, key)
        if public_key is None:
            say(f"there is no {key.alias}: an instance in {environment} will follow no release channel")
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
