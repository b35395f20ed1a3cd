"""An environment's release channel, as it stands in its bucket and as it is signed.

    channel.json              the pointer: a payload and its signature in one object, because two could be read apart
    releases/VERSION.json     the same form, but of serial 0: what was published as VERSION, for a rollback to believe
    bundles/SHA256.tar.gz     a bundle, by its content

infrastructure/packer/files/zmanim_host/release/pointer.py is the reader; a test holds the two together.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import tarfile
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from support.errors import Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import public_parameters
from zmanim_ami.pipeline.account.keys import release_key, signing_key

POINTER = "channel.json"
FORMAT = 1
LARGEST_BUNDLE = 64 * 1024 * 1024
# No pointer has it, and every image refuses it as one. A record that had a pointer's serial could be put in its place:
# that of a publisher who lost against another one has the same serial, and other content.
RECORD_SERIAL = 0
_CHANGED = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_MISSING = {"NoSuchKey", "404"}


@dataclass(frozen=True)
class Payload:
    """What is signed: the release that instances of `environment` are to run. `size` is in bytes, `expires` UTC."""

    format: int
    environment: str
    serial: int
    expires: str
    version: str
    sha256: str
    size: int
    architecture: str
    oldest_allowed: str
    rollback: bool

    def encoded(self) -> bytes:
        """Return the bytes that are signed."""
        return json.dumps(asdict(self), sort_keys=True).encode("ascii")


@dataclass(frozen=True)
class Read:
    """A signed object that was there, and the mark by which S3 knows that it has not changed since."""

    payload: Payload
    etag: str


def bucket(clients: aws.Clients, environment: str) -> str:
    """Return the name of an environment's bucket. Raises `bucket-unknown`, aws's errors."""
    return public_parameters.bucket(clients, environment, "releases")


def record(version: str) -> str:
    """Return the key of what was published as `version`."""
    return f"releases/{version}.json"


def bundle(sha256: str) -> str:
    """Return the key of a bundle."""
    return f"bundles/{sha256}.tar.gz"


def archive(directory: Path, largest: int = LARGEST_BUNDLE) -> bytes:
    """Return a release bundle's directory as the bytes that are published: the same files give the same bytes.

    Raises `bundle-too-large`.
    """
    packed = io.BytesIO()
    names = ["manifest.json", *(f"migrations/{path.name}" for path in (directory / "migrations").iterdir())]
    # No date, no name: nothing but the content may tell two of them apart.
    with (
        gzip.GzipFile(fileobj=packed, mode="wb", mtime=0, filename="") as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for name in sorted([*names, "zmanim-api"]):
            content = (directory / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o755 if name == "zmanim-api" else 0o644
            tar.addfile(member, io.BytesIO(content))
    if packed.tell() > largest:
        raise Error(
            f"the bundle {directory} is too large to be published",
            code="bundle-too-large",
            expected=f"at most {largest} bytes, compressed",
            found=f"{packed.tell()} bytes",
        )
    return packed.getvalue()


def read(clients: aws.Clients, environment: str, key: str, version_id: str = "") -> Read | None:
    """Return a signed object of the channel, its signature verified; None where there is none.

    Raises `bucket-unknown`, `channel-missing`, `channel-unreadable`, aws's errors.
    """
    place = bucket(clients, environment)
    with aws.translate_errors(f"reading {place}/{key}"):
        which = {"VersionId": version_id} if version_id else {}
        try:
            answer = aws.unless_refused(
                lambda: clients.s3.get_object(Bucket=place, Key=key, **which),  # type: ignore[arg-type]  # VersionId is text
                *_MISSING,
            )
        except clients.s3.exceptions.NoSuchBucket as error:
            raise Error(
                f"{environment} has no release channel",
                code="channel-missing",
                expected=f"the bucket {place}",
                found="none",
                fix=f"./inv account.apply --environment {environment}",
            ) from error
        if answer is None:
            return None
        content = answer["Body"].read()
    payload = _believed(clients, environment, key, content)
    if key == POINTER and payload.serial <= RECORD_SERIAL:
        raise _unreadable(environment, key, "a signed record of a version, which is no pointer")
    return Read(payload, answer["ETag"])


def newest_serial(clients: aws.Clients, environment: str) -> int:
    """Return the serial of an environment's channel as it is now, 0 where nothing was published yet.

    Raises `bucket-unknown`, `channel-missing`, `channel-unreadable`, aws's errors.
    """
    now = read(clients, environment, POINTER)
    return now.payload.serial if now else 0


def _believed(clients: aws.Clients, environment: str, key: str, content: bytes) -> Payload:
    try:
        envelope = json.loads(content)
        payload, signature = (base64.b64decode(envelope[part], validate=True) for part in ("payload", "signature"))
        signed = Payload(**json.loads(payload))
    except (ValueError, KeyError, TypeError) as error:
        raise _unreadable(environment, key, repr(error)) from error
    if not signing_key.is_signed(clients, release_key.of(environment), payload, signature):
        raise _unreadable(environment, key, f"a signature that is not {release_key.of(environment).alias}'s")
    return signed


def _unreadable(environment: str, key: str, found: str) -> Error:
    return Error(
        f"{key} in the channel of {environment} is not what was published",
        code="channel-unreadable",
        expected=f"a payload of format {FORMAT} signed by {release_key.of(environment).alias}",
        found=found,
        fix="the bucket keeps every version: find out who wrote this one, and put the one before it back",
    )


def last_serial(clients: aws.Clients, environment: str, now: Read | None) -> int:
    """Return the highest serial that was given out, 0 for a new channel.

    Where the pointer was deleted, an earlier version of it tells: instances remember what they saw.
    """
    if now is not None:
        return now.payload.serial
    place = bucket(clients, environment)
    with aws.translate_errors(f"looking for earlier pointers of {environment}"):
        pages = clients.s3.get_paginator("list_object_versions").paginate(Bucket=place, Prefix=POINTER)
        earlier = [item["VersionId"] for page in pages for item in page.get("Versions", []) if item["Key"] == POINTER]
    pointers = (read(clients, environment, POINTER, version_id) for version_id in earlier)
    return max((each.payload.serial for each in pointers if each), default=0)


def signed(clients: aws.Clients, environment: str, payload: Payload) -> bytes:
    """Return the object that holds a payload and its signature. Raises signing_key's and aws's errors."""
    encoded = payload.encoded()
    signature = signing_key.sign(clients, release_key.of(environment), encoded)
    parts = {"payload": encoded, "signature": signature}
    return json.dumps({name: base64.b64encode(part).decode() for name, part in parts.items()}).encode()


def put(clients: aws.Clients, environment: str, key: str, content: bytes) -> bool:
    """Write an object that never changes; return False when another one is there already. Raises aws's errors."""
    place = bucket(clients, environment)
    with aws.translate_errors(f"writing {place}/{key}"):
        put = partial(clients.s3.put_object, Bucket=place, Key=key, Body=content, IfNoneMatch="*")
        return aws.unless_refused(put, *_CHANGED) is not None or _is_there(clients, place, key, content)


def _is_there(clients: aws.Clients, place: str, key: str, content: bytes) -> bool:
    """Whether an object is just this one.

    Then it was written by an earlier attempt whose answer was lost: S3 refuses its repetition as it refuses another's.
    """
    answer = aws.unless_refused(lambda: clients.s3.get_object(Bucket=place, Key=key), *_MISSING)
    return answer is not None and answer["Body"].read() == content


def move(clients: aws.Clients, environment: str, content: bytes, now: Read | None) -> None:
    """Write the pointer, if it still is the one that was read. Raises `channel-moved`, aws's errors."""
    condition, place = {"IfMatch": now.etag} if now else {"IfNoneMatch": "*"}, bucket(clients, environment)
    with aws.translate_errors(f"moving the channel of {environment}"):
        moved = aws.unless_refused(
            lambda: clients.s3.put_object(
                Bucket=place,
                Key=POINTER,
                Body=content,
                ContentType="application/json",
                CacheControl="no-store",
                **condition,  # type: ignore[arg-type]  # each is text
            ),
            *_CHANGED,
        )
        ours = moved is not None or _is_there(clients, place, POINTER, content)
    if not ours:
        raise Error(
            f"the channel of {environment} was moved by somebody else meanwhile: nothing of yours is in force",
            code="channel-moved",
            expected=f"serial {now.payload.serial}" if now else "an empty channel",
            found="another one",
            fix="look at what they published, then run this again",
        )
