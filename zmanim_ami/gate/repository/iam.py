"""The IAM policies: well-formed, actions that AWS has, no action or resource wider than needed."""

from __future__ import annotations

import fnmatch
import functools
import gzip
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore

from zmanim_ami.gate.finding import Finding, line_of

POLICIES = Path("infrastructure/iam")
INSTANCE = "instance.json"
# Whose operations are their actions, by the same name in botocore.
_SERVICES = {"ec2", "ssm", "kms", "ses", "cloudwatch", "logs", "sts", "iam"}
# S3's actions are called otherwise than its operations; the agents' channels have no operations that clients know.
_OTHER_ACTIONS: Mapping[str, frozenset[str]] = {
    "s3": frozenset(
        {
            *("ListBucket", "ListBucketVersions", "ListBucketMultipartUploads", "ListMultipartUploadParts"),
            *("GetObject", "GetObjectVersion", "GetObjectTagging", "PutObject", "PutObjectTagging", "DeleteObject"),
            *("AbortMultipartUpload", "CreateBucket", "GetBucketLocation", "GetBucketTagging", "PutBucketTagging"),
            *("GetLifecycleConfiguration", "PutLifecycleConfiguration", "GetBucketVersioning", "PutBucketVersioning"),
            *("GetEncryptionConfiguration", "PutEncryptionConfiguration", "GetBucketPolicy", "PutBucketPolicy"),
            *("GetBucketPublicAccessBlock", "PutBucketPublicAccessBlock"),
        }
    ),
    "kms": frozenset(["ReEncryptFrom", "ReEncryptTo"]),
    "iam": frozenset(["PassRole"]),
    "ssm": frozenset(["UpdateInstanceInformation"]),
    "ssmmessages": frozenset(["CreateControlChannel", "CreateDataChannel", "OpenControlChannel", "OpenDataChannel"]),
    "ec2messages": frozenset(
        {
            *("AcknowledgeMessage", "DeleteMessage", "FailMessage", "GetEndpoint", "GetMessages", "SendReply"),
        }
    ),
}
# A star at the end, where it stands for the two halves of one operation.
_STARS = {"kms:ReEncrypt*"}
# Actions for which IAM knows no resource: "*" is all that can be written.
_NO_RESOURCE = re.compile(
    r"(ec2:Describe\w+|ssmmessages:\w+|ec2messages:\w+|cloudwatch:PutMetricData|ses:Send\w+|logs:Describe\w+"
    r"|ssm:(UpdateInstanceInformation|DescribeInstanceInformation|GetCommandInvocation|ListCommand\w+|DescribeParameters)"
    r"|sts:GetCallerIdentity)"
)
# Of those, the ones that nevertheless need a condition that says whose.
_NEEDS_CONDITION = re.compile(r"(cloudwatch:PutMetricData|ses:Send\w+)")


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the policies of infrastructure/iam."""
    found = []
    for path in sorted((tree / POLICIES).glob("*.json")):
        name, text = str(path.relative_to(tree)), path.read_text()
        try:
            document = json.loads(text, object_pairs_hook=_once)
            statements = document["Statement"]
            assert document.get("Version") == "2012-10-17", 'Version is not "2012-10-17"'
            assert isinstance(statements, list), "Statement is no list"
            assert statements, "Statement is empty"
        except (ValueError, KeyError, AssertionError, TypeError) as error:
            found.append(Finding(name, getattr(error, "lineno", 0), f"no policy: {error}"))
            continue
        for statement in statements:
            line = line_of(text, f'"{statement.get("Sid")}"')
            found += [Finding(name, line, words) for words in _statement(statement, path.name)]
        sids = [statement.get("Sid") for statement in statements]
        found += [
            Finding(name, line_of(text, f'"{sid}"'), f"two statements {sid}") for sid in {*sids} if sids.count(sid) > 1
        ]
        if path.name == "build.json" and not _never_says_verified(statements):
            found.append(Finding(name, 0, "who builds images may say that they are verified: Deny on zmanim:verified"))
    return found


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = [name for name, _ in pairs]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ValueError(f"twice in one object: {', '.join(sorted(twice))}")
    return dict(pairs)


def _list(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value] if isinstance(value, list) else []


def _statement(statement: Mapping[str, Any], file: str) -> Iterator[str]:
    sid = statement.get("Sid", "?")
    if not re.fullmatch(r"[A-Za-z0-9]+", str(sid)):
        yield f"{sid}: a statement has a Sid of letters and digits that says what it is for"
    if statement.get("Effect") not in {"Allow", "Deny"}:
        yield f"{sid}: Effect is Allow or Deny"
    for wide in ("NotAction", "NotResource", "NotPrincipal"):
        if wide in statement:
            yield f"{sid}: {wide} grants everything else, what AWS adds tomorrow too"
    actions = _list(statement.get("Action"))
    if not actions:
        yield f"{sid}: no Action"
    for action in actions:
        yield from (f"{sid}: {words}" for words in _action(action))
    if statement.get("Effect") == "Allow":
        if "Principal" in statement:
            yield from _trust(sid, statement)
        else:
            yield from (f"{sid}: {words}" for words in _resources(statement, actions, file))


def _action(action: str) -> Iterator[str]:
    if "*" in action and action not in _STARS:
        yield f"the action {action} grants more than it names"
        return
    service, _, operation = action.partition(":")
    names = known_actions(service)
    if not names:
        yield f"the service of {action} is not known here (zmanim_ami/gate/repository/iam.py)"
    elif not any(fnmatch.fnmatchcase(name, operation) for name in names):
        yield f"AWS has no action {action}"


@functools.cache
def known_actions(service: str) -> frozenset[str]:
    """Return the actions of a service: its operations by botocore's own model, and what is only an action."""
    other = _OTHER_ACTIONS.get(service, frozenset())
    if service not in _SERVICES:
        return other
    versions = sorted((Path(botocore.__file__).parent / "data" / service).iterdir())
    models = [path for version in versions for path in version.glob("service-2.json*")]
    raw = models[-1].read_bytes()
    return other | frozenset(json.loads(gzip.decompress(raw) if models[-1].suffix == ".gz" else raw)["operations"])


def _trust(sid: str, statement: Mapping[str, Any]) -> Iterator[str]:
    principal = json.dumps(statement["Principal"])
    if "*" in principal:
        yield f"{sid}: anybody may be it: Principal {principal}"


def _resources(statement: Mapping[str, Any], actions: Sequence[str], file: str) -> Iterator[str]:
    resources = _list(statement.get("Resource"))
    condition = json.dumps(statement.get("Condition", ""))
    if not resources:
        yield "no Resource"
    for resource in resources:
        if resource == "*":
            for action in actions:
                if not _NO_RESOURCE.fullmatch(action) and condition == '""':
                    yield f"{action} on every resource, and IAM could name one (or a condition)"
                if _NEEDS_CONDITION.fullmatch(action) and condition == '""':
                    yield f"{action} on every resource without a condition that says whose"
        elif not resource.startswith("arn:aws:"):
            yield f"{resource} is no ARN"
        else:
            yield from _wide(resource, condition, file)
    if "ssm:GetParametersByPath" in actions:
        paths = {resource for resource in resources if ":parameter/" in resource}
        for path in paths:
            twin = path.removesuffix("/*") if path.endswith("/*") else f"{path}/*"
            if twin not in paths:
                lacks = twin.rpartition(":")[2]
                yield f"GetParametersByPath needs the path itself and what is below it: {lacks} is missing"
    if "iam:PassRole" in actions and ("PassedToService" not in condition or any("*" in each for each in resources)):
        yield "iam:PassRole hands over one role, to one service (iam:PassedToService)"


def _wide(resource: str, condition: str, file: str) -> Iterator[str]:
    service, region, account, name = resource.split(":", 5)[2:]
    if service == "s3" and re.match(r"[^/]*\*", name):
        yield f"{resource} is also other people's buckets"
    if service != "s3" and (region == "*" or account == "*"):
        yield f"{resource} is also another account's or region's"
    if service == "ssm" and re.match(r"parameter/(\*|zmanim/?\*?$|zmanim/\*)", name):
        yield f"{resource} is every environment's parameters"
    if service == "iam" and name.startswith("role/") and "*" in name:
        yield f"{resource} is every role"
    if service == "kms" and name.endswith("*") and not re.search("kms:(ViaService|RequestAlias)", condition):
        yield f"{resource} is every key: say by which service (kms:ViaService) or name (kms:RequestAlias)"
    if file == INSTANCE and service in {"s3", "ssm", "logs"} and "${environment}" not in name:
        yield f"{resource} is not this environment's alone: ${{environment}}"


def _never_says_verified(statements: Sequence[Mapping[str, Any]]) -> bool:
    return any(
        statement.get("Effect") == "Deny"
        and "ec2:CreateTags" in _list(statement.get("Action"))
        and "zmanim:verified" in json.dumps(statement.get("Condition", ""))
        for statement in statements
    )
