"""S3's Block Public Access, which every new bucket has: what it refuses, of ACLs and of policies.

"Blocking public access to your Amazon S3 storage" (S3's user guide). What it makes of policies and ACLs that are there
already is decided with them (iam/resource_policies.py, iam/lookups.py).
"""

from __future__ import annotations

from typing import Any

from moto.s3.exceptions import S3ClientError
from moto.s3.models import FakeAcl, S3Backend
from moto.s3.responses import S3Response

from localcloud.api.patches import patch
from localcloud.iam.policy import PolicyInvalid, Statement, read
from localcloud.iam.public_policies import is_public

_EVERYBODY = tuple(f"http://acs.amazonaws.com/groups/global/{name}" for name in ("AllUsers", "AuthenticatedUsers"))


@patch(S3Backend.put_bucket_policy, wraps=True)
def put_bucket_policy(original: Any, backend: S3Backend, bucket_name: str, policy: bytes) -> None:
    """Give a bucket a policy that is one, and not a public one where that is blocked. Raises S3ClientError."""
    statements = _read(bucket_name, policy)
    block = backend.get_bucket(bucket_name).public_access_block
    if block is not None and block.block_public_policy and is_public(statements):
        raise _denied("public policies are blocked by the BlockPublicPolicy block public access setting.")
    original(backend, bucket_name, policy)


def _read(bucket_name: str, policy: bytes) -> tuple[Statement, ...]:
    try:
        statements = read(policy.decode(), f"policy of {bucket_name}")
    except (PolicyInvalid, UnicodeDecodeError) as error:
        raise _malformed("Policies must be valid JSON and the first byte must be '{'") from error
    if not statements:
        raise _malformed("Could not parse the policy: Statement is empty!")
    own = f"arn:aws:s3:::{bucket_name}"
    for each in statements:
        if each.principals is None and each.not_principals is None:
            raise _malformed("Missing required field Principal")
        named = each.resources or each.not_resources
        if not named:
            raise _malformed("Missing required field Resource")
        if any(resource != own and not resource.startswith(f"{own}/") for resource in named):
            raise _malformed("Policy has invalid resource")
    return statements


def _is_public(acl: FakeAcl | None) -> bool:
    return acl is not None and any(each.uri in _EVERYBODY for grant in acl.grants for each in grant.grantees)


def _check(response: Any, acl: FakeAcl | None) -> None:
    bucket = response.backend.buckets.get(response.bucket_name)
    block = bucket and bucket.public_access_block
    if not (block and block.block_public_acls and _is_public(acl)):
        return
    if response.data.get("Action") == "CreateBucket":  # which moto has made by now
        response.backend.delete_bucket(response.bucket_name)
        raise S3ClientError(
            "InvalidBucketAclWithBlockPublicAccessError",
            "Bucket cannot have public ACLs set with BlockPublicAccess enabled",
        )
    raise _denied("public ACLs are blocked by the BlockPublicAcls block public access setting.")


@patch(S3Response._acl_from_headers, wraps=True)
def acl_from_headers(original: Any, response: Any, headers: Any) -> FakeAcl | None:
    """Read the ACL that a call gives to a bucket or an object by its headers. Raises S3ClientError for a public one."""
    acl: FakeAcl | None = original(response, headers)
    _check(response, acl)
    return acl


@patch(S3Response._acl_from_body, wraps=True)
def acl_from_body(original: Any, response: Any) -> FakeAcl | None:
    """Read the ACL that a call gives by its body. Raises S3ClientError for a public one."""
    acl: FakeAcl | None = original(response)
    _check(response, acl)
    return acl


def _denied(why: str) -> S3ClientError:
    return S3ClientError("AccessDenied", f"Access Denied: {why}")


def _malformed(text: str) -> S3ClientError:
    return S3ClientError("MalformedPolicy", text)
