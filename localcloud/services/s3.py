"""What S3 asks of a bucket's name beyond moto: who may end one in -an.

moto has the other two refusals: BucketAlreadyExists for a name that another account has, InvalidNamespaceHeader for a
name that does not end in the caller's own account and region.
"""

from __future__ import annotations

from typing import Any

from moto.s3.exceptions import S3ClientError
from moto.s3.models import S3Backend

from localcloud.api.patches import patch


@patch(S3Backend.create_bucket, wraps=True)
def create_bucket(
    original: Any, backend: S3Backend, bucket_name: str, region_name: str, bucket_namespace: str | None = None
) -> Any:
    """Refuse a name of the regional namespaces where the call does not say that one is meant.

    S3's user guide, "General purpose bucket naming rules".
    """
    if bucket_name.endswith("-an") and bucket_namespace != "account-regional":
        raise S3ClientError(
            "MissingNamespaceHeader",
            "A bucket whose name ends in -an is of an account's regional namespace: x-amz-bucket-namespace is missing.",
        )
    return original(backend, bucket_name, region_name, bucket_namespace=bucket_namespace)
