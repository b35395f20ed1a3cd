"""Permissions boundaries of users, which moto lacks; those of roles it keeps, and nobody looks at them."""

from __future__ import annotations

import copy
from typing import Any

from moto.core.responses import ActionResult, EmptyResult
from moto.iam.models import User
from moto.iam.responses import IamResponse

from localcloud.api.patches import ApiError, add, patch


def boundary_of(owner: Any) -> str:
    """Return the ARN of the policy that bounds a user or a role, "" when none does."""
    return str(getattr(owner, "permissions_boundary_arn", None) or "")


def _check(response: Any, arn: str) -> None:
    if arn not in response.backend.managed_policies:
        raise ApiError("NoSuchEntity", f"Scope ARN: {arn} does not exist or is not attachable.")


def _set(user: User, arn: str) -> None:
    shown = {"PermissionsBoundaryType": "PermissionsBoundaryPolicy", "PermissionsBoundaryArn": arn}
    user.__dict__.update(permissions_boundary_arn=arn, permissions_boundary=shown)


@patch(IamResponse.create_user, wraps=True)
def create_user(original: Any, response: Any) -> ActionResult:
    """CreateUser, with a boundary."""
    arn = response._get_param("PermissionsBoundary")
    if arn:
        _check(response, arn)
    result: ActionResult = original(response)
    made: Any = result.result
    if arn:
        _set(made["User"], str(arn))
    return result


@patch(IamResponse.list_users, wraps=True)
def list_users(original: Any, response: Any) -> ActionResult:
    """ListUsers, which does not tell boundaries."""
    result: ActionResult = original(response)
    made: Any = result.result
    made["Users"] = [copy.copy(user) for user in made["Users"]]
    for user in made["Users"]:
        user.__dict__.pop("permissions_boundary", None)
    return result


@add(IamResponse)
def put_user_permissions_boundary(response: Any) -> EmptyResult:
    """PutUserPermissionsBoundary."""
    arn = str(response._get_param("PermissionsBoundary"))
    _check(response, arn)
    _set(response.backend.get_user(response._get_param("UserName")), arn)
    return EmptyResult()


@add(IamResponse)
def delete_user_permissions_boundary(response: Any) -> EmptyResult:
    """DeleteUserPermissionsBoundary."""
    user = response.backend.get_user(response._get_param("UserName"))
    for name in ("permissions_boundary_arn", "permissions_boundary"):
        user.__dict__.pop(name, None)
    return EmptyResult()
