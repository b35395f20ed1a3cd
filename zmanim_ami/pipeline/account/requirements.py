"""What an account needs for one environment (prod, verify, …), as a plan of what is missing or differs.

`plan` looks and says why; `apply` does exactly the rows it is given. After an apply the next plan is empty.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import botocore.exceptions

from support.errors import BadInput, Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import alarms, buckets, network, release_key, release_role, roles, workflow_roles
from zmanim_ami.pipeline.account.workflow_roles import Workflows
from zmanim_ami.pipeline.aws import Clients

if TYPE_CHECKING:
    from mypy_boto3_s3.literals import BucketLocationConstraintType
    from mypy_boto3_s3.type_defs import PublicAccessBlockConfigurationTypeDef

BUCKETS = ("backups", "releases")
# Made here because nobody has to know them: the instance reads them by its role. restic's also opens the backups, so
# it has to be kept outside of the account as well (README.md).
SECRETS = ("redis-password", "jwt-secret", "restic-password")
VERIFY = "verify"

_BLOCKED: PublicAccessBlockConfigurationTypeDef = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}


@dataclass(frozen=True)
class Change:
    """One thing that `apply` would do, and why; `do` does it."""

    action: str
    resource: str
    reason: str
    do: Callable[[Clients], object] = field(repr=False, compare=False)


def plan(
    clients: Clients, environment: str, *, policies: Path, subnet_id: str = "", workflows: Workflows | None = None
) -> list[Change]:
    """Return what is missing for `environment`, in the order in which it has to be made; changes nothing.

    `policies` is infrastructure/iam. The network, and the roles of `workflows` when there are any, are planned with the
    environment `verify`, where instances are launched by this project itself; `subnet_id` is the setting of that name.

    Raises `environment-invalid`, `bucket-not-ours`, `policies-invalid`, aws's faults.
    """
    check_environment(environment)
    account = aws.account(clients)
    with aws.translate_errors(f"looking at what {environment} has"):
        changes = [change for role in BUCKETS for change in _bucket(clients, role, environment, account)]
        changes += _secrets(clients, environment)
        changes += _release_key(clients, environment)
        changes += [
            Change(action, resource, reason, do)
            for planned in (roles.plan, release_role.plan)
            for action, resource, reason, do in planned(clients, environment, account, policies)
        ]
        changes += [
            Change(action, resource, reason, do)
            for action, resource, reason, do in alarms.plan(
                clients, environment, account, watched=environment != VERIFY
            )
        ]
        if environment == VERIFY:
            changes += _network(clients, subnet_id)
        if environment == VERIFY and workflows is not None:
            changes += [
                Change(action, resource, reason, do)
                for action, resource, reason, do in workflow_roles.plan(clients, account, policies, workflows)
            ]
    return changes


def check_environment(environment: str) -> None:
    """Raise `environment-invalid` unless this can be an environment's name; asks nobody."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", environment, re.ASCII):
        raise BadInput(
            f"{environment!r} is no environment's name",
            code="environment-invalid",
            expected="a-z, 0-9 and '-', such as prod",
            found=environment,
        )


def apply(clients: Clients, changes: Sequence[Change]) -> None:
    """Do the changes one after the other, saying each. What is done stays done when a later one fails: plan again.

    Raises aws's faults.
    """
    for change in changes:
        say(f"{change.action} {change.resource} ({change.reason})")
        with aws.translate_errors(f"doing: {change.action} {change.resource}"):
            change.do(clients)


def _bucket(clients: Clients, role: str, environment: str, account: str) -> Iterator[Change]:
    name = f"zmanim-{role}-{environment}"
    exists = _bucket_exists(clients, name, account)
    if not exists:
        yield Change("create", f"bucket {name}", "there is none", lambda c: _create_bucket(c, name))
    s3 = clients.s3
    if not exists or aws.unless_absent(
        lambda: s3.get_bucket_encryption(Bucket=name), "ServerSideEncryptionConfigurationNotFoundError"
    ) in (None, {}):
        yield Change(
            "encrypt",
            f"bucket {name}",
            "objects would be stored in the clear",
            lambda c: c.s3.put_bucket_encryption(
                Bucket=name,
                ServerSideEncryptionConfiguration={
                    "Rules": [{"ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]
                },
            ),
        )
    blocked = exists and aws.unless_absent(
        lambda: s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"],
        "NoSuchPublicAccessBlockConfiguration",
    )
    if blocked != _BLOCKED:
        yield Change(
            "close",
            f"bucket {name}",
            "public access is not blocked",
            lambda c: c.s3.put_public_access_block(Bucket=name, PublicAccessBlockConfiguration=_BLOCKED),
        )
    if not exists or s3.get_bucket_versioning(Bucket=name).get("Status") != "Enabled":
        yield Change(
            "version",
            f"bucket {name}",
            "an overwritten or deleted object would be gone",
            lambda c: c.s3.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"}),
        )
    rows = buckets.plan(clients, name, exists=exists, backups=role == "backups", passing=environment == VERIFY)
    for action, resource, reason, do in rows:
        yield Change(action, resource, reason, do)


def _bucket_exists(clients: Clients, name: str, account: str) -> bool:
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


def _create_bucket(clients: Clients, name: str) -> None:
    if clients.region == "us-east-1":  # the one region that may not be named
        clients.s3.create_bucket(Bucket=name)
    else:
        where: BucketLocationConstraintType = clients.region  # type: ignore[assignment]  # any region's name
        clients.s3.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": where})


def _secrets(clients: Clients, environment: str) -> Iterator[Change]:
    names = [f"/zmanim/{environment}/{name}" for name in SECRETS]
    # DescribeParameters tells names without values: a plan needs no right to read a secret.
    pages = clients.ssm.get_paginator("describe_parameters").paginate(
        ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": names}]
    )
    there = {item.get("Name") for page in pages for item in page["Parameters"]}
    for name in names:
        if name not in there:
            yield Change("create", f"secret {name}", "there is none", partial(_create_secret, name=name))


def _create_secret(clients: Clients, name: str) -> None:
    try:
        clients.ssm.put_parameter(
            Name=name,
            Description="zmanim: random, made by account.apply",
            Value=secrets.token_urlsafe(48),
            Type="SecureString",
            Overwrite=False,
        )
    except clients.ssm.exceptions.ParameterAlreadyExists:
        say(f"{name} has appeared meanwhile: left as it is")


def _release_key(clients: Clients, environment: str) -> Iterator[Change]:
    if release_key.find(clients, environment) is None:
        yield Change(
            "create",
            f"KMS key {release_key.alias(environment)}",
            "there is none to sign the API's releases with",
            partial(release_key.create, environment=environment),
        )


def _network(clients: Clients, subnet_id: str) -> Iterator[Change]:
    found = network.subnet(clients, subnet_id)
    if found is None:
        yield Change(
            "create",
            "VPC, subnet and internet gateway zmanim-verification",
            "there is no default VPC and no subnet was chosen",
            network.create_vpc,
        )
    group = network.security_group(clients, found[1]) if found else None
    if group is None:
        yield Change(
            "create",
            f"security group {network.GROUP_NAME}",
            "there is none for verification instances",
            lambda c: network.create_security_group(c, subnet_id),
        )
    elif group.get("IpPermissions"):
        yield Change(
            "close",
            f"security group {network.GROUP_NAME}",
            "it has ingress rules, and nobody is to get in",
            lambda c: network.close_security_group(c, group),
        )
