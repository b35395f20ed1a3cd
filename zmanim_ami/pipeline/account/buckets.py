"""An environment's buckets: encrypted, closed, versioned, reached by TLS alone; what was deleted is kept a while."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import botocore.exceptions

from support.errors import Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import (
        LifecycleRuleUnionTypeDef,
        PublicAccessBlockConfigurationTypeDef,
        ServerSideEncryptionConfigurationTypeDef,
    )

# A stolen instance role can delete objects, not their versions: so long is there time to notice.
NONCURRENT_DAYS = 35
# Machines of the environment verify live for minutes, and their repositories are nobody's afterwards.
PASSING_DAYS = 7
_BLOCKED: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_ENCRYPTED: ServerSideEncryptionConfigurationTypeDef = {
    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
}


def plan(clients: aws.Clients, name: str, account: str, *, backups: bool, passing: bool) -> Iterator[Change]:
    """Yield what the bucket lacks. `backups` says that it holds them, `passing` that they are of passing machines.

    Raises `bucket-not-ours`, botocore's errors.
    """
    s3, resource = clients.s3, f"bucket {name}"
    exists = _exists(clients, name, account)

    def existing(read: Callable[[], object], *absent: str) -> object:
        return aws.unless_refused(read, *absent) if exists else None

    if not exists:
        yield Change("create", resource, "there is none", partial(create, clients, name))
    if not existing(lambda: s3.get_bucket_encryption(Bucket=name), "ServerSideEncryptionConfigurationNotFoundError"):
        encrypt = partial(s3.put_bucket_encryption, Bucket=name, ServerSideEncryptionConfiguration=_ENCRYPTED)
        yield Change("encrypt", resource, "objects would be stored in the clear", encrypt)
    blocked = existing(
        lambda: s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        "NoSuchPublicAccessBlockConfiguration",
    )
    if blocked != _BLOCKED:
        close = partial(s3.put_public_access_block, Bucket=name, PublicAccessBlockConfiguration=_BLOCKED)
        yield Change("close", resource, "public access is not blocked", close)
    if existing(lambda: s3.get_bucket_versioning(Bucket=name).get("Status")) != "Enabled":
        version = partial(s3.put_bucket_versioning, Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        yield Change("version", resource, "an overwritten or deleted object would be gone", version)
    policy = tls_only(name)
    if existing(lambda: json.loads(s3.get_bucket_policy(Bucket=name)["Policy"]), "NoSuchBucketPolicy") != policy:
        restrict = partial(s3.put_bucket_policy, Bucket=name, Policy=json.dumps(policy))
        yield Change("restrict", resource, "it would be spoken to without TLS", restrict)
    rules = lifecycle_rules(passing=passing)
    if backups and rules != existing(
        lambda: s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], "NoSuchLifecycleConfiguration"
    ):
        limit = partial(s3.put_bucket_lifecycle_configuration, Bucket=name, LifecycleConfiguration={"Rules": rules})
        reason = f"what was deleted would be kept for ever, or not for {NONCURRENT_DAYS} days"
        yield Change("limit", resource, reason, limit)


def tls_only(name: str) -> dict[str, object]:
    """Return the policy that refuses whoever does not use TLS."""
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "TlsOnly",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [f"arn:aws:s3:::{name}", f"arn:aws:s3:::{name}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }


def lifecycle_rules(*, passing: bool) -> list[LifecycleRuleUnionTypeDef]:
    """Return the rules of a bucket with backups; only the account's owner can change them, not the instance."""
    rules: list[LifecycleRuleUnionTypeDef] = [
        {
            "ID": "deleted",
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 7},
        }
    ]
    if passing:
        rules.append(
            {"ID": "passing", "Status": "Enabled", "Filter": {"Prefix": ""}, "Expiration": {"Days": PASSING_DAYS}}
        )
    return rules


def _exists(clients: aws.Clients, name: str, account: str) -> bool:
    try:
        clients.s3.head_bucket(Bucket=name, ExpectedBucketOwner=account)
    except botocore.exceptions.ClientError as error:
        code = aws.error_code(error)
        if code in {"404", "NoSuchBucket"}:
            return False
        if code in {"403", "301", "AccessDenied", "PermanentRedirect"}:
            # Bucket names are one for the whole world: 403 is also what another account's bucket answers.
            raise Error(
                f"the bucket {name} exists and can't be used",
                code="bucket-not-ours",
                expected=f"a bucket of account {account} in {clients.region} that these credentials may look at",
                found=f"{code} from HeadBucket",
                fix="use a role that may; if the bucket is not yours, its name is taken",
            ) from error
        raise
    return True


def create(clients: aws.Clients, name: str) -> None:
    """Create a bucket in the region of `clients`."""
    if clients.region == "us-east-1":  # the one region that may not be named
        clients.s3.create_bucket(Bucket=name)
    else:
        where: BucketLocationConstraintType = clients.region  # type: ignore[assignment]  # any region's name
        clients.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": where})
