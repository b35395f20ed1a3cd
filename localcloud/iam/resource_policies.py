"""The policies of resources that have one of their own: S3's buckets and KMS's keys."""

from __future__ import annotations

import json
from typing import Any

from moto.kms.models import kms_backends
from moto.s3.models import s3_backends

from localcloud.iam.actions import Demand
from localcloud.iam.policy import Statement, read_cached
from localcloud.settings import ACCOUNT

# lookups.py leaves AWS's own aliases as they are: these keys' policies are the same in every account.
_AWS_MANAGED = "key/alias/aws/"
_USES = ("Encrypt", "Decrypt", "ReEncrypt*", "GenerateDataKey*", "CreateGrant", "DescribeKey")


def resource_policy(demand: Demand) -> tuple[Statement, ...]:
    """Return the statements of the policy of what is asked for, none where there is none. Raises PolicyInvalid."""
    if demand.action.startswith("s3:"):
        return _of_bucket(demand.resource.removeprefix("arn:aws:s3:::").partition("/")[0])
    if demand.action.startswith("kms:") and ":key/" in demand.resource:
        return _of_key(demand.resource)
    return ()


def _of_bucket(name: str) -> tuple[Statement, ...]:
    bucket = s3_backends[ACCOUNT]["aws"].buckets.get(name)
    return read_cached(_text(bucket.policy), f"policy of {name}") if bucket and bucket.policy else ()


def _of_key(arn: str) -> tuple[Statement, ...]:
    region, name = arn.split(":")[3], arn.rpartition("/")[2]
    if _AWS_MANAGED in arn:
        return _of_aws_managed_key(name, region)
    key = kms_backends[ACCOUNT][region].keys.get(name)
    return () if key is None else read_cached(_text(key.policy), f"policy of key {name}")


def _of_aws_managed_key(service: str, region: str) -> tuple[Statement, ...]:
    """Return the policy of the key that AWS makes for a service: everybody in the account may use it through that."""
    through = f"{'ec2' if service == 'ebs' else service}.{region}.amazonaws.com"
    statement = {
        "Sid": "AllowAccessThroughTheService",
        "Effect": "Allow",
        "Principal": {"AWS": "*"},
        "Action": [f"kms:{use}" for use in _USES],
        "Resource": "*",
        "Condition": {"StringEquals": {"kms:CallerAccount": ACCOUNT, "kms:ViaService": through}},
    }
    document = {"Version": "2012-10-17", "Statement": [statement]}
    return read_cached(json.dumps(document), f"policy of alias/aws/{service}")


def _text(document: Any) -> str:
    return document.decode() if isinstance(document, bytes) else str(document)
