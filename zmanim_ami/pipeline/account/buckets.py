"""An environment's buckets: encrypted, closed, versioned, reached by TLS alone; what was deleted is kept a while."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, cast

import botocore.exceptions

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import bucket_rules
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.account.public_parameters import regional_suffix

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import (
        GetBucketLifecycleConfigurationOutputTypeDef,
        LifecycleRuleUnionTypeDef,
        PublicAccessBlockConfigurationTypeDef,
        ServerSideEncryptionConfigurationTypeDef,
    )

Plan = Generator[Change, None, bool]

_BLOCKED: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
_ENCRYPTED: ServerSideEncryptionConfigurationTypeDef = {
    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
}


def plan(clients: aws.Clients, name: str, account: str, *, backups: bool, passing: bool) -> Plan:
    """Yield what the bucket lacks, and return whether it is missing.

    `backups` says that it holds them, `passing` that they are of passing machines. What its owner made stricter is left
    so, and said.

    Raises `bucket-not-ours`, botocore's errors.
    """
    s3, resource = clients.s3, f"bucket {name}"
    exists = _exists(clients, name, account)

    def existing(read: Callable[[], object], *absent: str) -> object:
        return aws.unless_refused(read, *absent) if exists else None

    if not exists:
        yield Change("create", resource, "there is none", partial(create, clients, name, account))
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
    kept: list[str] = []
    found = existing(lambda: json.loads(s3.get_bucket_policy(Bucket=name)["Policy"]), "NoSuchBucketPolicy")
    yield from _restrict(clients, name, cast("dict[str, object] | None", found), kept)
    found = existing(lambda: s3.get_bucket_lifecycle_configuration(Bucket=name), "NoSuchLifecycleConfiguration")
    configured = cast("GetBucketLifecycleConfigurationOutputTypeDef", found or {})
    merged = bucket_rules.lifecycle(configured.get("Rules", []), backups=backups, passing=passing)
    kept += merged.kept
    yield from _limit(clients, name, configured, merged)
    if kept:
        say(f"{resource}: left as its owner made it: {'; '.join(kept)}")
    return not exists


def _restrict(clients: aws.Clients, name: str, found: dict[str, object] | None, kept: list[str]) -> Iterator[Change]:
    merged = bucket_rules.policy(name, found)
    kept += merged.kept
    if merged.reasons:
        document = {"Version": "2012-10-17", **(found or {}), "Statement": merged.content}
        put = partial(clients.s3.put_bucket_policy, Bucket=name, Policy=json.dumps(document))
        yield Change("restrict", f"bucket {name}", _because(merged), put)


def _limit(
    clients: aws.Clients,
    name: str,
    found: GetBucketLifecycleConfigurationOutputTypeDef,
    merged: bucket_rules.Merged,
) -> Iterator[Change]:
    if merged.reasons:
        rules = cast("Sequence[LifecycleRuleUnionTypeDef]", merged.content)
        put = partial(
            clients.s3.put_bucket_lifecycle_configuration, Bucket=name, LifecycleConfiguration={"Rules": rules}
        )
        if size := found.get("TransitionDefaultMinimumObjectSize"):  # left out, it would be set back
            put = partial(put, TransitionDefaultMinimumObjectSize=size)
        yield Change("limit", f"bucket {name}", _because(merged), put)


def _because(merged: bucket_rules.Merged) -> str:
    kept = f"; what its owner made of it stays: {', '.join(merged.kept)}" if merged.kept else ""
    return f"{', '.join(merged.reasons)}{kept}"


def _exists(clients: aws.Clients, name: str, account: str) -> bool:
    try:
        clients.s3.head_bucket(Bucket=name, ExpectedBucketOwner=account)
    except botocore.exceptions.ClientError as error:
        code = aws.error_code(error)
        if code in {"404", "NoSuchBucket"}:
            return False
        if code in {"403", "301", "AccessDenied", "PermanentRedirect"}:
            # A plain name is one for the whole world: 403 is also what another account's bucket answers.
            raise Error(
                f"the bucket {name} exists and can't be used",
                code="bucket-not-ours",
                expected=f"a bucket of account {account} in {clients.region} that these credentials may look at",
                found=f"{code} from HeadBucket",
                fix="use a role that may; if the bucket is not yours, its name is taken",
            ) from error
        raise
    return True


def create(clients: aws.Clients, name: str, account: str = "") -> None:
    """Create a bucket in the region of `clients`; in the regional namespace of `account` where its name says so."""
    # us-east-1 is the one region that may not be named.
    where: BucketLocationConstraintType = clients.region  # type: ignore[assignment]  # any region's name
    create = partial(clients.s3.create_bucket, Bucket=name)
    if clients.region != "us-east-1":
        create = partial(create, CreateBucketConfiguration={"LocationConstraint": where})
    if account and name.endswith(regional_suffix(account, clients.region)):
        create = partial(create, BucketNamespace="account-regional")
    with aws.ignoring("BucketAlreadyOwnedByYou"):  # the answer to an earlier attempt of this call was lost
        create()
