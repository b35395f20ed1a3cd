"""What a bucket has beyond its name: who may speak to it and how, and how long what was deleted can be had back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.aws import Clients

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import LifecycleRuleUnionTypeDef

# action, resource, reason, what does it
Row = tuple[str, str, str, Callable[[Clients], object]]

# A stolen instance role can delete objects, not their versions: so long is there time to notice.
NONCURRENT_DAYS = 35
# Machines of the environment verify live for minutes, and their repositories are nobody's afterwards.
PASSING_DAYS = 7


def plan(clients: Clients, name: str, *, exists: bool, backups: bool, passing: bool) -> Iterator[Row]:
    """Yield what the bucket lacks. `backups` says that it holds them, `passing` that they are of passing machines.

    Raises botocore's errors.
    """
    s3 = clients.s3
    policy = exists and aws.unless_absent(lambda: s3.get_bucket_policy(Bucket=name)["Policy"], "NoSuchBucketPolicy")
    wanted = tls_only(name)
    if not policy or json.loads(str(policy)) != wanted:
        put = partial(_put_policy, name=name, policy=wanted)
        yield "restrict", f"bucket {name}", "it would be spoken to without TLS", put
    if backups:
        rules = exists and aws.unless_absent(
            lambda: s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"], "NoSuchLifecycleConfiguration"
        )
        lifecycle = lifecycle_rules(passing=passing)
        if not rules or _plain(rules) != _plain(lifecycle):
            reason = f"what was deleted would be kept for ever, or not for {NONCURRENT_DAYS} days"
            yield "limit", f"bucket {name}", reason, partial(_put_lifecycle, name=name, rules=lifecycle)


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


def _plain(rules: object) -> object:
    return json.loads(json.dumps(rules, sort_keys=True))


def _put_policy(clients: Clients, name: str, policy: dict[str, object]) -> None:
    clients.s3.put_bucket_policy(Bucket=name, Policy=json.dumps(policy))


def _put_lifecycle(clients: Clients, name: str, rules: list[LifecycleRuleUnionTypeDef]) -> None:
    clients.s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": rules})
