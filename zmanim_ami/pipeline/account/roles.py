"""An environment's roles: that of its instances, zmanim-{environment}-instance, and those of the people who run it.

Their policies are files of infrastructure/iam, whose placeholders its README lists. An instance's are
`instance*.json`: instance-trust.json says who may take the role, each other one is an inline policy called as its
file. Those of people (PEOPLE) have one policy each, called as they are, and people-trust.json says who may take them:
neither an instance nor a workflow has one.
"""

from __future__ import annotations

import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from support.errors import Error
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.settings import REGION

Document = Mapping[str, object]
# What takes the place of a policy's placeholders in one region.
Values = Mapping[str, str]

# The placeholder of each region that images are copied to.
_COPY = "copy_region"
# Parameters are what every role of ours is given in each of its regions.
_REGIONAL = re.compile(rf"arn:aws[a-z-]*:ssm:({REGION}):")
# The roles of people in an environment, and what each does.
PEOPLE: Mapping[str, str] = {
    "release": "publishes the API's releases",
    "operate": "launches, lists and swaps instances",
}
# IAM's quotas: a role's inline policies, without white space.
_LARGEST = 10240
# What safe_substitute left, but for ${aws:…}, which are IAM's own variables.
_PLACEHOLDER = re.compile(r"\$\w+|\$\{(?!aws:)[^}]*\}")


def name(environment: str) -> str:
    """Return the name of the role and of the instance profile of an environment's instances."""
    return f"zmanim-{environment}-instance"


def release_name(environment: str) -> str:
    """Return the name of the role that publishes the API's releases in an environment."""
    return _of_people("release", environment)


def operate_name(environment: str) -> str:
    """Return the name of the role that launches, lists and swaps an environment's instances."""
    return _of_people("operate", environment)


def names(environment: str) -> list[str]:
    """Return the names of all roles of an environment."""
    return [name(environment), *(_of_people(what, environment) for what in PEOPLE)]


def _of_people(what: str, environment: str) -> str:
    return f"zmanim-{what}-{environment}"


def plan(clients: aws.Clients, environment: str, directory: Path, every: Sequence[Values]) -> Iterator[Change]:
    """Yield what the roles of `environment` and its instances' profile lack or have too much in `every` region.

    Raises `policies-invalid`, `policies-too-large`, and botocore's errors.
    """
    iam, role = clients.iam, name(environment)
    trust, inline = policies(directory, every)
    yield from role_changes(clients, role, trust, inline, "zmanim: what an instance may do")
    profile = aws.unless_refused(
        lambda: iam.get_instance_profile(InstanceProfileName=role)["InstanceProfile"], "NoSuchEntity"
    )
    if profile is None:
        yield Change("create", f"instance profile {role}", "there is none", partial(_create_profile, clients, role))
    if profile is None or role not in [item["RoleName"] for item in profile["Roles"]]:
        fill = partial(_fill_profile, clients, role)
        yield Change("add", f"role {role} to its instance profile", "not in it", fill)
    trust = read(directory / "people-trust.json", every)
    for what, description in PEOPLE.items():
        policy = read(directory / f"{what}.json", every)
        yield from role_changes(clients, _of_people(what, environment), trust, {what: policy}, f"zmanim: {description}")


def policies(directory: Path, every: Sequence[Values]) -> tuple[Document, dict[str, Document]]:
    """Return the trust policy and the inline policies by name of an instance's role, as the files in `directory` say.

    Raises `policies-invalid` when either is missing, or a file is no JSON or holds an unknown placeholder.
    """
    trust = directory / "instance-trust.json"
    inline = {path.stem: read(path, every) for path in sorted(directory.glob("instance*.json")) if path != trust}
    if not inline:
        raise Error(
            "there is no policy for instances",
            code="policies-invalid",
            expected=f"instance*.json in {directory}",
            found="none",
        )
    return read(trust, every), inline


def read(path: Path, every: Sequence[Values], copies: Sequence[str] = ()) -> Document:
    """Return the policy in a file with `every` region's values in the place of its placeholders.

    A text that they make different becomes the list of what they make of it: a role is one for all regions, and what it
    may do in one is never more than the file says. `copies` are the regions that images are copied to: a statement
    whose resources are all there needs one. Raises `policies-invalid`.
    """
    try:
        document: Any = _filled(json.loads(path.read_text()), every, copies)
        statements: Any = document["Statement"]
        if unresolved := _PLACEHOLDER.search(json.dumps(document)):
            raise ValueError(f"unknown placeholder {unresolved[0]}")
        return {**document, "Statement": [each for each in statements if each.get("Resource") != []]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise Error(
            f"{path.name} is no policy",
            code="policies-invalid",
            expected="a JSON object with a Statement",
            found=str(error),
            fix=str(path),
        ) from error


def _filled(node: Any, every: Sequence[Values], copies: Sequence[str]) -> Any:
    if isinstance(node, str):
        several = [{**values, _COPY: region} for values in every for region in copies] if _COPY in node else every
        texts = [*dict.fromkeys(string.Template(node).safe_substitute(values) for values in several)]
        return texts[0] if len(texts) == 1 else texts
    if isinstance(node, list):
        filled = [_filled(each, every, copies) for each in node]
        spread = [text for each in filled for text in (each if isinstance(each, list) else [each])]
        return [text for number, text in enumerate(spread) if text not in spread[:number]]
    if isinstance(node, dict):
        return {key: _filled(value, every, copies) for key, value in node.items()}
    return node


def regions(clients: aws.Clients, names: Iterable[str]) -> set[str]:
    """Return the regions whose parameters the inline policies of roles name, of those roles that are there."""
    found: set[str] = set()
    for role in names:
        inline = aws.unless_refused(partial(_inline, clients, role), "NoSuchEntity")
        found |= {match[1] for match in _REGIONAL.finditer(json.dumps(inline or {}))}
    return found


def role_changes(
    clients: aws.Clients, role: str, trust: Document, inline: Mapping[str, Document], description: str
) -> Iterator[Change]:
    """Yield what a role lacks or has too much of its trust policy and inline policies. Raises `policies-too-large`."""
    iam, size = clients.iam, sum(len(json.dumps(each, separators=(",", ":"))) for each in inline.values())
    if size > _LARGEST:
        raise Error(
            f"the policies of {role} are too large",
            code="policies-too-large",
            expected=f"at most {_LARGEST} characters, which is IAM's limit",
            found=f"{size}: each region adds to them",
            fix="fewer regions (the setting ami_regions)",
        )
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
