"""What S3 asks of names, checksums and uploads beyond moto, and how a new bucket encrypts.

Of names moto has two refusals: BucketAlreadyExists for one that another account has, InvalidNamespaceHeader for one
that does not end in the caller's own account and region.
"""

from __future__ import annotations

import base64
import copy
import hashlib
import re
from typing import Any

from moto.s3.exceptions import CopyObjectMustChangeSomething, NoSuchUpload, S3ClientError
from moto.s3.models import FakeBucket, FakeKey, PublicAccessBlock, S3Backend
from moto.s3.responses import S3Response
from moto.s3.utils import compute_checksum

from localcloud.api.patches import patch

# "General purpose bucket naming rules" (S3's user guide).
_NAME = re.compile(r"(?!\d+\.\d+\.\d+\.\d+$)[a-z0-9](?!.*\.\.)[a-z0-9.-]{1,61}[a-z0-9]")
_FIRST = ("xn--", "sthree-", "amzn-s3-demo-")
_LAST = ("-s3alias", "--ol-s3", ".mrap", "--x-s3", "--table-s3")
# "Setting default server-side encryption behavior for Amazon S3 buckets": what every bucket has that chose nothing.
_OWN_ENCRYPTION = {
    "Rule": {"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}, "BucketKeyEnabled": "false"}
}
# Checksums that are computed here as S3 computes them.
_CHECKSUMS = ("CRC32", "SHA1", "SHA256")


@patch(S3Backend.create_bucket, wraps=True)
def create_bucket(
    original: Any, backend: S3Backend, bucket_name: str, region_name: str, bucket_namespace: str | None = None
) -> Any:
    """Refuse a name that is none, and one of the regional namespaces where the call does not say that one is meant."""
    if not _NAME.fullmatch(bucket_name) or bucket_name.startswith(_FIRST) or bucket_name.endswith(_LAST):
        raise S3ClientError("InvalidBucketName", "The specified bucket is not valid.")
    if bucket_name.endswith("-an") and bucket_namespace != "account-regional":
        raise S3ClientError(
            "MissingNamespaceHeader",
            "A bucket whose name ends in -an is of an account's regional namespace: x-amz-bucket-namespace is missing.",
        )
    return original(backend, bucket_name, region_name, bucket_namespace=bucket_namespace)


@patch(FakeBucket.__init__, wraps=True)
def initialize(original: Any, bucket: FakeBucket, *arguments: Any, **given: Any) -> None:
    """Make a bucket as new ones are: it encrypts by S3's own keys, and nobody but its account gets at it."""
    original(bucket, *arguments, **given)
    bucket.public_access_block = PublicAccessBlock(True, True, True, True)
    bucket.encryption = copy.deepcopy(_OWN_ENCRYPTION)


@patch(S3Backend.delete_bucket_encryption)
def delete_bucket_encryption(backend: S3Backend, bucket_name: str) -> None:
    """Reset a bucket to S3's own keys."""
    backend.get_bucket(bucket_name).encryption = copy.deepcopy(_OWN_ENCRYPTION)


@patch(S3Backend.copy_object, wraps=True)
def copy_object(original: Any, backend: S3Backend, source: FakeKey, bucket_name: str, key: str, **given: Any) -> Any:
    """Refuse a copy of an object onto itself that changes nothing: how its bucket encrypts of itself is no change."""
    bucket = backend.get_bucket(bucket_name)
    changes = (
        given.get("storage"),
        given.get("encryption"),
        given.get("website_redirect_location"),
        given.get("mdirective") == "REPLACE",
        bucket.encryption != _OWN_ENCRYPTION,
        source.encryption not in {None, "AES256"},
        bucket.is_versioned and given.get("provided_version_id"),
    )
    if (source.bucket_name, source.name) == (bucket_name, key) and not any(changes):
        raise CopyObjectMustChangeSomething
    return original(backend, source, bucket_name, key, **given)


@patch(S3Backend.upload_part, wraps=True)
def upload_part(original: Any, backend: S3Backend, bucket_name: str, multipart_id: str, *more: Any) -> Any:
    """Take a part of an upload that exists."""
    return original(backend, bucket_name, _existing(backend, bucket_name, multipart_id), *more)


@patch(S3Backend.upload_part_copy, wraps=True)
def upload_part_copy(
    original: Any, backend: S3Backend, dest_bucket_name: str, multipart_id: str, *more: Any, **source: Any
) -> Any:
    """Copy a part of an upload that exists."""
    return original(backend, dest_bucket_name, _existing(backend, dest_bucket_name, multipart_id), *more, **source)


@patch(S3Backend.complete_multipart_upload, wraps=True)
def complete_multipart_upload(original: Any, backend: S3Backend, bucket_name: str, multipart_id: str, body: Any) -> Any:
    """Complete an upload that exists."""
    return original(backend, bucket_name, _existing(backend, bucket_name, multipart_id), body)


def _existing(backend: S3Backend, bucket_name: str, upload_id: str) -> str:
    if upload_id not in backend.get_bucket(bucket_name).multiparts:
        raise NoSuchUpload(upload_id=upload_id)
    return upload_id


@patch(S3Response._get_checksum, wraps=True)
def get_checksum(original: Any, response: Any, response_headers: Any) -> Any:
    """Read the checksum that an object or a part comes with, which has to be that of its content.

    Raises S3ClientError (BadDigest, InvalidDigest). Checksums behind a body are not looked at.
    """
    if "x-amz-copy-source" not in response.headers:
        _check_content(response.headers, response.body or b"")
    return original(response, response_headers)


def _check_content(headers: Any, content: bytes | str) -> None:
    body = content.encode() if isinstance(content, str) else bytes(content)
    for algorithm in _CHECKSUMS:
        given = headers.get(f"x-amz-checksum-{algorithm.lower()}")
        if given and given != compute_checksum(body, algorithm).decode():
            raise S3ClientError("BadDigest", f"The {algorithm} you specified did not match the calculated checksum.")
    if not (digest := headers.get("Content-MD5")):
        return
    try:
        wanted = base64.b64decode(digest, validate=True)
    except ValueError:
        wanted = b""
    if len(wanted) != hashlib.md5(usedforsecurity=False).digest_size:
        raise S3ClientError("InvalidDigest", "The Content-MD5 you specified was invalid.")
    if wanted != hashlib.md5(body, usedforsecurity=False).digest():
        raise S3ClientError("BadDigest", "The Content-MD5 you specified did not match what we received.")
