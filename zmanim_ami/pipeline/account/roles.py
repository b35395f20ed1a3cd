"""An environment's roles: that of its instances, zmanim-{environment}-instance, and that which publishes releases.

Their policies are files of infrastructure/iam, whose placeholders its README lists. An instance's are
`instance*.json`: instance-trust.json says who may take the role, each other one is an inline policy called as its
file. The release role's are release.json and release-trust.json; neither an instance nor a workflow has it.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change

Document = Mapping[str, object]

# One string for each region that images are copied to, where a list has one with this in it.
_COPIES = "${copy_region}"
# What safe_substitute left, but for ${aws:…}, which are IAM's own variables.
_PLACEHOLDER = re.compile(r"\$\w+|\$\{(?!aws:)[^}]*\}")


def name(environment: str) -> str:
    """Return the name of the role and of the instance profile of an environment's instances."""
    return f"zmanim-{environment}-instance"


def release_name(environment: str) -> str:
    """Return the name of the role that publishes the API's releases in an environment."""
    return f"zmanim-release-{environment}"


def plan(clients: aws.Clients, environment: str, account: str, directory: Path) -> Iterator[Change]:
    """Yield what the roles of `environment` and its instances' profile lack or have too much.

    Raises `policies-invalid`, and botocore's errors.
    """
    iam, role = clients.iam, name(environment)
    trust, inline = policies(directory, environment=environment, account=account, region=clients.region)
    yield from role_changes(clients, role, trust, inline, "zmanim: what an instance may do")
    profile = aws.unless_refused(
        lambda: iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"], "NoSuchEntity"
    )
    if profile is None:
        yield Change("create", f"instance profile {role}", "there is none", partial(_create_profile, clients, role))
    if profile is None or role not in [item["RoleName"] for item in profile["Roles"]]:
        fill = partial(_fill_profile, clients, role)
        yield Change("add", f"role {role} to its instance profile", "not in it", fill)
    values = {"environment": environment, "account": account, "region": clients.region}
    trust, policy = (read(directory / f"{file}.json", values) for file in ("release-trust", "release"))
    description = "zmanim: publishes the API's releases"
    yield from role_changes(clients, release_name(environment), trust, {"release": policy}, description)


def policies(directory: Path, *, environment: str, account: str, region: str) -> tuple[Document, dict[str, Document]]:
    """Return the trust policy and the inline policies by name of an instance's role, as the files in `directory` say.

    Raises `policies-invalid` when either is missing, or a file is no JSON or holds an unknown placeholder.
    """
    values = {"environment": environment, "account": account, "region": region}
    trust = directory / "instance-trust.json"
    inline = {path.stem: read(path, values) for path in sorted(directory.glob("instance*.json")) if path != trust}
    if not inline:
        raise Error(
            "there is no policy for instances",
            code="policies-invalid",
            expected=f"instance*.json in {directory}",
            found="none",
        )
    return read(trust, values), inline


def read(path: Path, values: Mapping[str, str], copies: Sequence[str] = ()) -> Document:
    """Return the policy in a file with `values` in the place of its placeholders. Raises `policies-invalid`.

    `copies` are the regions that images are copied to: a statement whose resources are all there needs one.
    """
    try:
        text = string.Template(path.read_text()).safe_substitute(values)
        if unresolved := _PLACEHOLDER.search(text.replace(_COPIES, "")):
            raise ValueError(f"unknown placeholder {unresolved[0]}")
        document: Document = _with_copies(json.loads(text), copies)
        statements: Any = document["Statement"]
        return {**document, "Statement": [each for each in statements if each.get("Resource") != []]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(
            f"{path.name} is no policy",
            code="policies-invalid",
            expected="a JSON object with a Statement",
            found=str(error),
            fix=str(path),
        ) from error


def _with_copies(node: Any, copies: Sequence[str]) -> Any:
    if isinstance(node, dict):
        return {name: _with_copies(value, copies) for name, value in node.items()}
    if not isinstance(node, list):
        return node
    spread = [
        [value.replace(_COPIES, region) for region in copies]
        if isinstance(value, str) and _COPIES in value
        else [value]
        for value in node
    ]
    return [_with_copies(value, copies) for values in spread for value in values]


def role_changes(
    clients: aws.Clients, role: str, trust: Document, inline: Mapping[str, Document], description: str
) -> Iterator[Change]:
    """Yield what a role lacks or has too much of its trust policy and inline policies."""
    iam = clients.iam
    existing = aws.unless_refused(lambda: iam.get_role(RoleName=role)["Role"], "NoSuchEntity")
    present: dict[str, Document] = {}
    if existing is None:
        create = partial(_create_role, clients, role, trust, description)
        yield Change("create", f"role {role}", "there is none", create)
    else:
        present = _inline(clients, role)
        if _document(existing.get("AssumeRolePolicyDocument", {})) != trust:
            update = partial(iam.update_assume_role_policy, RoleName=role, PolicyDocument=json.dumps(trust))
            yield Change("update", f"role {role}", "another trust policy", update)
    for policy, document in inline.items():
        if present.get(policy) != document:
            put = partial(iam.put_role_policy, RoleName=role, PolicyName=policy, PolicyDocument=json.dumps(document))
            action, reason = (
                ("update", "it differs from its file") if policy in present else ("create", "there is none")
            )
            yield Change(action, f"policy {policy} of {role}", reason, put)
    for policy in sorted(present.keys() - inline.keys()):
        if _only_denies(present[policy]):
            say(f"policy {policy} of {role} only denies: left as the account's owner made it")
            continue
        delete = partial(iam.delete_role_policy, RoleName=role, PolicyName=policy)
        yield Change("delete", f"policy {policy} of {role}", "its file is gone", delete)


def _only_denies(document: Document) -> bool:
    statements = document["Statement"]
    return isinstance(statements, list) and all(each["Effect"] == "Deny" for each in statements)


def _inline(clients: aws.Clients, role: str) -> dict[str, Document]:
    pages = clients.iam.get_paginator("list_role_policies").paginate(RoleName=role)
    return {
        policy: _document(clients.iam.get_role_policy(RoleName=role, PolicyName=policy)["PolicyDocument"])
        for page in pages
        for policy in page["PolicyNames"]
    }


def _document(value: object) -> Document:
    document: Document = json.loads(value) if isinstance(value, str) else dict(value)  # type: ignore[call-overload]  # botocore's stubs say object
    return document


def _create_role(clients: aws.Clients, role: str, trust: Document, description: str) -> None:
    # There already: the answer to an earlier attempt of this call was lost. Were it another's, the next plan says so.
    with aws.ignoring("EntityAlreadyExists"):
        clients.iam.create_role(RoleName=role, AssumeRolePolicyDocument=json.dumps(trust), Description=description)
    clients.iam.get_waiter("role_exists").wait(RoleName=role)


def _create_profile(clients: aws.Clients, role: str) -> None:
    with aws.ignoring("EntityAlreadyExists"):
        clients.iam.create_instance_profile(InstanceProfileName=role)
    clients.iam.get_waiter("instance_profile_exists").wait(InstanceProfileName=role)


def _fill_profile(clients: aws.Clients, role: str) -> None:
    with aws.ignoring("LimitExceeded"):  # it holds one role: this one, when the answer to an earlier attempt was lost
        clients.iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
