"""The role of an environment's instances and its instance profile, both called zmanim-{environment}-instance.

Its policies are the files `instance*.json` of infrastructure/iam, with $environment, $account and $region in them: the
one with a Principal says who may take the role, each other one is an inline policy called as its file.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from support.errors import Error
from zmanim_ami.pipeline.aws import Clients

Document = Mapping[str, object]
# action, resource, reason, what does it
Row = tuple[str, str, str, Callable[[Clients], object]]

# What safe_substitute left, but for ${aws:…}, which are IAM's own variables.
_PLACEHOLDER = re.compile(r"\$\w+|\$\{(?!aws:)[^}]*\}")

_TRUST: Document = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


def name(environment: str) -> str:
    """Return the name of the role and of the instance profile of an environment's instances."""
    return f"zmanim-{environment}-instance"


def policies(directory: Path, *, environment: str, account: str, region: str) -> tuple[Document, dict[str, Document]]:
    """Return the trust policy and the inline policies by name, as the files in `directory` say.

    Raises `policies-invalid` when there is none, or one is no JSON or holds an unknown placeholder.
    """
    trust: Document = _TRUST
    inline: dict[str, Document] = {}
    values = {"environment": environment, "account": account, "region": region}
    for path in sorted(directory.glob("instance*.json")):
        document = read(path, values)
        if is_trust(document):
            trust = document
        else:
            inline[path.stem] = document
    if not inline:
        raise Error(
            "there is no policy for instances",
            code="policies-invalid",
            expected=f"instance*.json in {directory}",
            found="none",
        )
    return trust, inline


def read(path: Path, values: Mapping[str, str]) -> Document:
    """Return the policy in a file with `values` in the place of its placeholders. Raises `policies-invalid`."""
    try:
        text = string.Template(path.read_text()).safe_substitute(values)
        if left := _PLACEHOLDER.search(text):
            raise ValueError(f"unknown placeholder {left[0]}")
        document: Document = json.loads(text)
        document["Statement"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(
            f"{path.name} is no policy",
            code="policies-invalid",
            expected="a JSON object with a Statement",
            found=str(error),
            fix=str(path),
        ) from error
    return document


def is_trust(document: Document) -> bool:
    """Say whether a policy is about who may take a role."""
    statements = document["Statement"]
    assert isinstance(statements, list)
    return any("Principal" in statement for statement in statements)


def plan(clients: Clients, environment: str, account: str, directory: Path) -> Iterator[Row]:
    """Yield what the role and the profile of `environment` lack or have too much.

    Raises `policies-invalid`, and botocore's errors.
    """
    role = name(environment)
    trust, inline = policies(directory, environment=environment, account=account, region=clients.region)
    yield from role_rows(clients, role, trust, inline, "zmanim: what an instance may do")
    holds = _profile_roles(clients, role)
    if holds is None:
        yield "create", f"instance profile {role}", "there is none", partial(_create_profile, role=role)
    if not holds or role not in holds:
        yield "add", f"role {role} to its instance profile", "not in it", partial(_fill_profile, role=role)


def role_rows(
    clients: Clients, role: str, trust: Document, inline: Mapping[str, Document], description: str
) -> Iterator[Row]:
    """Yield what a role lacks or has too much of its trust policy and inline policies."""
    there = _trust(clients, role)
    if there is None:
        create = partial(_create_role, role=role, trust=trust, description=description)
        yield "create", f"role {role}", "there is none", create
    elif there != trust:
        yield "update", f"role {role}", "another trust policy", partial(_update_trust, role=role, trust=trust)
    present = _inline(clients, role) if there is not None else {}
    for policy, document in inline.items():
        if present.get(policy) != document:
            why = "it differs from its file" if policy in present else "there is none"
            put = partial(_put_policy, role=role, policy=policy, document=document)
            yield "update" if policy in present else "create", f"policy {policy} of {role}", why, put
    for policy in sorted(present.keys() - inline.keys()):
        delete = partial(_delete_policy, role=role, policy=policy)
        yield "delete", f"policy {policy} of {role}", "its file is gone", delete


def _trust(clients: Clients, role: str) -> Document | None:
    try:
        return _document(clients.iam.get_role(RoleName=role)["Role"].get("AssumeRolePolicyDocument", {}))
    except clients.iam.exceptions.NoSuchEntityException:
        return None


def _inline(clients: Clients, role: str) -> dict[str, Document]:
    pages = clients.iam.get_paginator("list_role_policies").paginate(RoleName=role)
    return {
        policy: _document(clients.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"])
        for page in pages
        for policy in page["PolicyNames"]
    }


def _document(value: object) -> Document:
    document: Document = json.loads(value) if isinstance(value, str) else dict(value)  # type: ignore[call-overload]  # botocore's stubs say object
    return document


def _profile_roles(clients: Clients, role: str) -> list[str] | None:
    try:
        profile = clients.iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"]
    except clients.iam.exceptions.NoSuchEntityException:
        return None
    return [item["RoleName"] for item in profile["Roles"]]


def _create_role(clients: Clients, role: str, trust: Document, description: str) -> None:
    clients.iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust), Description=description)
    clients.iam.get_waiter("role_exists").wait(RoleName=role)


def _update_trust(clients: Clients, role: str, trust: Document) -> None:
    clients.iam.update_assume_role_policy(RoleName=role, PolicyDocument=json.dumps(trust))


def _put_policy(clients: Clients, role: str, policy: str, document: Document) -> None:
    clients.iam.put_role_policy(RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))


def _delete_policy(clients: Clients, role: str, policy: str) -> None:
    clients.iam.delete_role_policy(RoleName=role, PolicyName=policy)


def _create_profile(clients: Clients, role: str) -> None:
    clients.iam.create_instance_profile(InstanceProfileName=role)
    clients.iam.get_waiter("instance_profile_exists").wait(InstanceProfileName=role)


def _fill_profile(clients: Clients, role: str) -> None:
    clients.iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
