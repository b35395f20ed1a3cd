"""The policies of resources that have one of their own: S3's buckets and KMS's keys.

They are decided before moto sees a call (authorization.py). moto's own reading of bucket policies is put aside: it
would deny every call of a statement whose condition is not met.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from contextvars import ContextVar
from typing import Any

from moto.iam.access_control import PermissionResult
from moto.kms.models import kms_backends
from moto.s3.models import FakeBucket, s3_backends

from localcloud.api.patches import patch
from localcloud.iam.actions import RequiredAction
from localcloud.iam.policy import Statement, read, read_cached
from localcloud.iam.public_policies import is_public
from localcloud.settings import ACCOUNT

# lookups.py leaves AWS's own aliases as they are: these keys' policies are the same in every account.
_AWS_MANAGED = "key/alias/aws/"
_USES = ("Encrypt", "Decrypt", "ReEncrypt*", "GenerateDataKey*", "CreateGrant", "DescribeKey")


# The ARNs of the objects that the call in this thread may delete, None for a call that is no DeleteObjects.
_deletable: ContextVar[frozenset[str] | None] = ContextVar("deletable", default=None)


def let_delete(arns: Iterable[str] | None) -> None:
    """Say which objects a DeleteObjects may delete, whose answer tells of every other one as an error; None: no such.

    It has to be said of every call: what was said of the thread's last one stays said.
    """
    _deletable.set(None if arns is None else frozenset(arns))


@patch(FakeBucket.get_permission)
def get_permission(_bucket: FakeBucket, action: str, resource: str) -> PermissionResult:
    """Find nothing in bucket policies: what is left to moto are objects' ACLs, and objects that may not be deleted."""
    deletable = _deletable.get()
    denied = action == "s3:DeleteObject" and deletable is not None and resource not in deletable
    return PermissionResult.DENIED if denied else PermissionResult.NEUTRAL


def resource_policy(required: RequiredAction, *, anonymous: bool = False) -> tuple[Statement, ...]:
    """Return the statements of the policy that a resource has of its own, else none. Raises PolicyInvalid.

    A bucket with a public policy that restricts public access (RestrictPublicBuckets) allows nothing to who is
    `anonymous`: all others here are of its account.
    """
    if required.action.startswith("s3:"):
        name = required.resource.removeprefix("arn:aws:s3:::").partition("/")[0]
        bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
        if bucket is None or not bucket.policy:
            return ()
        statements = read_cached(_text(bucket.policy), f"policy of {name}")
        block = bucket.public_access_block
        restricted = anonymous and block is not None and block.restrict_public_buckets and is_public(statements)
        return tuple(each for each in statements if each.effect == "Deny") if restricted else statements
    if required.action.startswith("kms:") and ":key/" in required.resource:
        return _of_key(required.resource)
    return ()


def _of_key(arn: str) -> tuple[Statement, ...]:
    region, name = arn.split(":")[3], arn.rpartition("/")[2]
    if _AWS_MANAGED in arn:
        return _of_aws_managed_key(name, region)
    key = kms_backends[ACCOUNT][region].keys.get(name)
    if key is None:
        return ()
    grants = [statement for grant in list(key.grants.values()) for statement in _of_grant(grant, arn)]
    return (*read_cached(_text(key.policy), f"policy of key {name}"), *grants)


def _of_grant(grant: Any, arn: str) -> tuple[Statement, ...]:
    """Return what a grant allows its grantee, as a statement of the key's policy ("Grants in AWS KMS")."""
    constraints = grant.constraints or {}
    equal, subset = constraints.get("EncryptionContextEquals"), constraints.get("EncryptionContextSubset")
    pairs = {**(equal or {}), **(subset or {})}
    condition: dict[str, Any] = {f"kms:EncryptionContext:{name}": value for name, value in pairs.items()}
    statement = {
        "Effect": "Allow",
        "Principal": {"AWS": grant.grantee_principal},
        "Action": [f"kms:{operation}" for operation in grant.operations or ()],
        "Resource": arn,
        "Condition": {
            **({"StringEquals": condition} if condition else {}),
            **({"ForAllValues:StringEquals": {"kms:EncryptionContextKeys": list(equal)}} if equal else {}),
        },
    }
    return read({"Version": "2012-10-17", "Statement": [statement]}, f"grant {grant.id}")


def _of_aws_managed_key(service: str, region: str) -> tuple[Statement, ...]:
    """Return the policy of the key that AWS makes for a service: everybody in the account may use it through that.

    And look at it, as the policies of their own let them.
    """
    through = f"{'ec2' if service == 'ebs' else service}.{region}.amazonaws.com"
    statement = {
        "Sid": "AllowAccessThroughTheService",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"kms:{use}" for use in _USES],
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:CallerAccount": ACCOUNT, "kms:ViaService": through}},
    }
    looking = {
        "Sid": "AllowDirectAccessToKeyMetadata",
        "Effect": "Allow",
        "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"},
        "Action": ["kms:Describe*", "kms:Get*", "kms:List*", "kms:RevokeGrant"],
        "Resource": "*",
    }
    document = {"Version": "2012-10-17", "Statement": [statement, looking]}
    return read_cached(json.dumps(document), f"policy of alias/aws/{service}")


def _text(document: Any) -> str:
    return document.decode() if isinstance(document, bytes) else str(document)
