"""The release channel's pointer: one signed object that names the release to run.

Everything here reads what an attacker may have written, so it takes exactly one form and nothing else.
"""

from __future__ import annotations

import base64
import calendar
import hashlib
import json
import math
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zmanim_host.host import ANSWER_SECONDS, HostError, run

# One object with both the payload and its signature: two objects could be read from two different moments.
NAME = "channel.json"
LONGEST = 16 * 1024  # bytes; a real one has about 700
FORMAT = 1
LARGEST_BUNDLE = 64 * 1024 * 1024  # bytes
KEYS = Path("/etc/zmanim/release-keys")

# What zmanim_ami/pipeline/version.py takes for a release: else an image could be built that follows no channel.
_VERSION = re.compile(r"(?=.{0,64}\Z)v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)(?:-rc\.([1-9][0-9]*))?")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_TIME = re.compile(r"2[0-9]{3}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z")
_FIELDS = {
    "format": int,
    "environment": str,
    "serial": int,
    "expires": str,
    "version": str,
    "sha256": str,
    "size": int,
    "architecture": str,
    "oldest_allowed": str,
    "rollback": bool,
}


@dataclass(frozen=True)
class Pointer:
    """What the channel says. `sha256` and `size` (bytes) are the bundle's; `digest` is the payload's own SHA-256."""

    environment: str
    serial: int
    expires: float  # seconds since 1970
    version: str
    sha256: str
    size: int
    architecture: str
    oldest_allowed: str
    rollback: bool
    digest: str


def order(version: str) -> tuple[int, int, int, float]:
    """Return what sorts versions by age; a release candidate is older than its release. HostError for anything else."""
    match = _VERSION.fullmatch(version)
    if not match:
        raise HostError(f"{version[:80]!r} is not a release's version (vMAJOR.MINOR.PATCH, or that with -rc.N)")
    major, minor, patch, candidate = match.groups()
    return int(major), int(minor), int(patch), int(candidate) if candidate else math.inf


def is_release(version: str) -> bool:
    """Return whether a version is a release's; a test image's is not."""
    return bool(_VERSION.fullmatch(version))


def open_envelope(content: bytes, key: Path) -> bytes:
    """Return the payload of the channel's object, once it is proven that `key` signed it.

    `key` is a public key in PEM (ECDSA or any other); the signature is over the payload's SHA-256. Raises HostError
    when the object is anything else, the signature is not this key's, or it can't be checked.
    """
    if len(content) > LONGEST:
        raise HostError(f"the channel's pointer is longer than {LONGEST} bytes")
    values = _object(content, "the channel's pointer")
    if set(values) == {"payload"}:
        raise HostError("the channel's pointer is not signed")
    if set(values) != {"payload", "signature"}:
        raise HostError("the channel's pointer is not a payload with a signature")
    payload = _decoded(values["payload"], "payload")
    if not payload.isascii():
        raise HostError("the channel's payload is not ASCII")
    with tempfile.TemporaryDirectory(prefix="release-") as directory:
        signature = Path(directory, "signature")
        signature.write_bytes(_decoded(values["signature"], "signature"))
        command = ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature)]
        done = run(command, timeout=ANSWER_SECONDS, input=payload.decode("ascii"), may_exit=(0, 1))
    if done.returncode != 0 or done.stdout.strip() != "Verified OK":
        raise HostError(f"the channel's signature is not that of {key.name}")
    return payload


def read_payload(payload: bytes) -> Pointer:
    """Return what a payload says; HostError for a field too much, too few or of another form."""
    values = _object(payload, "the channel's payload")
    if set(values) != set(_FIELDS):
        wrong = sorted(set(values) ^ set(_FIELDS))
        raise HostError(f"the channel's payload has other fields than it should: {', '.join(wrong)[:200]}")
    for name, kind in _FIELDS.items():
        # A bool is an int to isinstance.
        if type(values[name]) is not kind:
            raise HostError(f"the channel's {name} is not of the right kind")
    if values["format"] != FORMAT:
        raise HostError(f"the channel's format is {values['format']}, and this image reads {FORMAT}")
    if not 1 <= values["serial"] < 1 << 53:
        raise HostError("the channel's serial is not a number from 1")
    if not 1 <= values["size"] <= LARGEST_BUNDLE:
        raise HostError(f"the channel's size is not from 1 to {LARGEST_BUNDLE} bytes")
    if not _SHA256.fullmatch(values["sha256"]):
        raise HostError("the channel's sha256 is not one")
    order(values["version"])
    order(values["oldest_allowed"])
    return Pointer(
        environment=values["environment"],
        serial=values["serial"],
        expires=_seconds(values["expires"]),
        version=values["version"],
        sha256=values["sha256"],
        size=values["size"],
        architecture=values["architecture"],
        oldest_allowed=values["oldest_allowed"],
        rollback=values["rollback"],
        digest=hashlib.sha256(payload).hexdigest(),
    )


def read(content: bytes, environment: str, keys: Path = KEYS) -> Pointer:
    """Return what the channel's object says, once it is proven to be what this environment's key signed.

    Raises HostError with the first thing that is wrong.
    """
    key = keys / f"{environment}.pem"
    if not key.is_file():
        raise HostError(f"this image has no key for the channel of {environment}: it follows none")
    # First the signature: nothing that is unsigned is looked into.
    pointer = read_payload(open_envelope(content, key))
    if pointer.environment != environment:
        raise HostError(f"the channel's pointer is for {pointer.environment[:40]!r}, and this machine is {environment}")
    return pointer


def floor(environment: str, keys: Path = KEYS) -> int:
    """Return the newest serial that the channel had when this image was built, 0 when that is not known.

    A data volume that is new has seen no serial: without this it would take any old pointer that was signed once.
    Raises HostError when the image says something else.
    """
    try:
        text = (keys / f"{environment}.serial").read_text("ascii").strip()
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        raise HostError(f"the image's serial of {environment} can't be read: {error}") from None
    if not re.fullmatch(r"[0-9]{1,16}", text):
        raise HostError(f"the image's serial of {environment} is none")
    return int(text)


def bundle_name(sha256: str) -> str:
    """Return the key of the object that holds a bundle: it is named by its content."""
    return f"bundles/{sha256}.tar.gz"


def _object(content: bytes, what: str) -> Mapping[str, Any]:
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len({name for name, _ in pairs}) != len(pairs):
            raise ValueError("a name that is there twice")
        return dict(pairs)

    try:
        values = json.loads(content.decode("ascii"), object_pairs_hook=once)
    except (ValueError, RecursionError):
        raise HostError(f"{what} is not JSON as it should be") from None
    if not isinstance(values, dict):
        raise HostError(f"{what} is not a JSON object")
    return values


def _decoded(value: object, name: str) -> bytes:
    try:
        if isinstance(value, str) and value:
            return base64.b64decode(value, validate=True)
    except ValueError:
        pass
    raise HostError(f"the channel's {name} is not Base64")


def _seconds(text: str) -> float:
    if _TIME.fullmatch(text):
        try:
            return float(calendar.timegm(time.strptime(text, "%Y-%m-%dT%H:%M:%SZ")))
        except ValueError:
            pass
    raise HostError("the channel's expires is not a time like 2027-01-31T00:00:00Z")
