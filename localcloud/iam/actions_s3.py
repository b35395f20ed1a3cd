"""The actions of a call to S3."""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterator

from localcloud.iam.actions import Context, Parameters, RequiredAction
from localcloud.iam.lookups import Lookups

# Operations whose action has another name; every other one's is its own.
_ACTIONS = {
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListObjectVersions": "ListBucketVersions",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "ListBuckets": "ListAllMyBuckets",
    "HeadObject": "GetObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "CopyObject": "PutObject",
    "UploadPartCopy": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketLifecycle": "GetLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycle": "PutLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "PutObjectLockConfiguration": "PutBucketObjectLockConfiguration",
    "GetBucketNotificationConfiguration": "GetBucketNotification",
    "PutBucketNotificationConfiguration": "PutBucketNotification",
    "GetBucketReplication": "GetReplicationConfiguration",
    "PutBucketReplication": "PutReplicationConfiguration",
    "GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteBucketCors": "PutBucketCORS",
    "GetBucketCors": "GetBucketCORS",
    "PutBucketCors": "PutBucketCORS",
}
# Headers of PutObject that take an action of their own.
_PUT_HEADERS = {
    "x-amz-object-lock-mode": "PutObjectRetention",
    "x-amz-object-lock-retain-until-date": "PutObjectRetention",
    "x-amz-object-lock-legal-hold": "PutObjectLegalHold",
    "x-amz-tagging": "PutObjectTagging",
    "x-amz-acl": "PutObjectAcl",
}
# Those that have an action of its own for one version of an object.
_VERSIONED = {"GetObject", "DeleteObject", "GetObjectTagging", "PutObjectTagging", "GetObjectAcl", "PutObjectAcl"}
_QUERY = {"prefix": "s3:prefix", "delimiter": "s3:delimiter", "max-keys": "s3:max-keys", "versionId": "s3:versionid"}
_HEADERS = (
    "x-amz-acl", "x-amz-server-side-encryption", "x-amz-server-side-encryption-aws-kms-key-id", "x-amz-storage-class",
    "x-amz-content-sha256", "x-amz-copy-source",
)  # fmt: skip


def s3(operation: str, given: Parameters, lookups: Lookups) -> Iterator[RequiredAction]:
    """Yield the actions of a call; `given` is what calls.py makes of path, query and headers."""
    bucket, key, version = (str(given.get(name) or "") for name in ("Bucket", "Key", "versionId"))
    arn = f"arn:aws:s3:::{bucket}" if bucket else "*"
    context: Context = {to: (str(given[name]),) for name, to in _QUERY.items() if name in given}
    context |= {f"s3:{name}": (str(given[name]),) for name in _HEADERS if name in given}
    bypass = str(given.get("x-amz-bypass-governance-retention", "")).lower() == "true"
    action = _ACTIONS.get(operation, operation)
    if operation == "DeleteObjects":
        for name, each in given.get("Objects", ()):
            yield from _object(arn, name, each, "DeleteObject", context)
            if bypass:
                yield RequiredAction("s3:BypassGovernanceRetention", f"{arn}/{name}", context)
        return
    if not key:
        yield RequiredAction(f"s3:{action}", arn, context)
        return
    yield from _object(arn, key, version, action, context)
    if action == "GetObject" and not version and not lookups.has_object(bucket, key):
        # Who may not list a bucket is not told that it lacks an object: S3 answers 403 instead of 404.
        yield RequiredAction("s3:ListBucket", arn)
    extra = {"BypassGovernanceRetention"} if bypass else set()
    if action == "PutObject":
        extra |= {permission for header, permission in _PUT_HEADERS.items() if header in given}
    for each in sorted(extra):
        yield RequiredAction(f"s3:{each}", f"{arn}/{key}", context)
    if source := str(given.get("x-amz-copy-source", "")):
        encoded, _, source_version = source.removeprefix("/").partition("?versionId=")
        path = urllib.parse.unquote(encoded)
        read = "s3:GetObjectVersion" if source_version else "s3:GetObject"
        yield RequiredAction(read, f"arn:aws:s3:::{path}", context)


def _object(bucket: str, key: str, version: str, action: str, context: Context) -> Iterator[RequiredAction]:
    of_version = f"{action}Version" if action.endswith("Object") else action.replace("Object", "ObjectVersion")
    name = of_version if version and action in _VERSIONED else action
    yield RequiredAction(f"s3:{name}", f"{bucket}/{key}", context | ({"s3:versionid": (version,)} if version else {}))
