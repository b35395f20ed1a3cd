"""Bucket policies are decided before moto sees a call (authorization.py); moto's own reading of them is put aside.

It would deny every call of a statement whose condition is not met.
"""

from __future__ import annotations

from typing import Any

from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket

from localcloud.api.patches import replace


def install() -> None:
    """Let moto find nothing in bucket policies. What is left to it are objects' ACLs."""
    replace(FakeBucket, "get_permission", _nothing)


def _nothing(_bucket: Any, _action: str, _resource: str) -> PermissionResult:
    return PermissionResult.NEUTRAL
