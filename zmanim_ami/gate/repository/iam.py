"""The IAM policies: well-formed, actions that AWS has, no action or resource wider than needed."""

from __future__ import annotations

import fnmatch
import functools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import botocore.loaders

from zmanim_ami.gate.finding import Finding, line_of

POLICIES = Path("infrastructure/iam")
INSTANCE = "instance.json"
# Whose operations are their actions, by the same name in botocore.
_SERVICES = {"ec2", "autoscaling", "ssm", "kms", "ses", "cloudwatch", "logs", "sts", "iam"}
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
    r"(ec2:Describe\w+|autoscaling:Describe\w+|ssmmessages:\w+|ec2messages:\w+|cloudwatch:PutMetricData|ses:Send\w+|logs:Describe\w+"
    r"|ssm:(UpdateInstanceInformation|DescribeInstanceInformation|GetCommandInvocation|ListCommand\w+|DescribeParameters)"
    r"|sts:GetCallerIdentity)"
)
# Of those, the ones that nevertheless need a condition that says whose.
_NEEDS_CONDITION = re.compile(r"(cloudwatch:PutMetricData|ses:Send\w+)")


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the policies of infrastructure/iam."""
    return [finding for path in sorted((tree / POLICIES).glob("*.json")) for finding in _policy(tree, path)]


def _policy(tree: Path, path: Path) -> Iterator[Finding]:
    name, text = str(path.relative_to(tree)), path.read_text()
    try:
        document = json.loads(text, object_pairs_hook=_unrepeated)
        statements = document["Statement"]
        assert document.get("Version") == "2012-10-17", 'Version is not "2012-10-17"'
        assert isinstance(statements, list), "Statement is no list"
        assert statements, "Statement is empty"
    except (ValueError, KeyError, AssertionError, TypeError) as error:
        yield Finding(name, getattr(error, "lineno", 0), f"no policy: {error}")
        return
    sids = Counter(str(statement.get("Sid")) for statement in statements)
    for statement in statements:
        sid = str(statement.get("Sid"))
        words = [*_statement(statement, path.name), *(["two statements have this Sid"] if sids[sid] > 1 else [])]
        yield from (Finding(name, line_of(text, f'"{sid}"'), f"{sid}: {each}") for each in words)
    if path.name == "build.json" and not any(map(_denies_verified, statements)):
        yield Finding(name, 0, "who builds images may say that they are verified: Deny on zmanim:verified")


def _unrepeated(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(dict(pairs)) < len(pairs):
        raise ValueError(f"a name twice in one object: {', '.join(name for name, _ in pairs)}")
    return dict(pairs)


def _list(value: object) -> list[str]:
    return [value] if isinstance(value, str) else [str(each) for each in value] if isinstance(value, list) else []


def _statement(statement: Mapping[str, Any], file: str) -> Iterator[str]:
    actions = _list(statement.get("Action"))
    principal = json.dumps(statement.get("Principal", ""))
    yield from _true(
        (not re.fullmatch(r"[A-Za-z0-9]+", str(statement.get("Sid", ""))), "Sid is letters and digits that say why"),
        (statement.get("Effect") not in {"Allow", "Deny"}, "Effect is Allow or Deny"),
        (not actions, "no Action"),
        (statement.get("Effect") == "Allow" and "*" in principal, f"anybody may be it: Principal {principal}"),
    )
    for wide in {"NotAction", "NotResource", "NotPrincipal"} & statement.keys():
        yield f"{wide} grants everything else, what AWS adds tomorrow too"
    for action in actions:
        yield from _action(action)
    if statement.get("Effect") == "Allow" and "Principal" not in statement:
        yield from _resources(statement, actions, file)
        yield from _conditions(statement, actions)


def _true(*problems: tuple[object, str]) -> Iterator[str]:
    return (words for is_so, words in problems if is_so)


def _action(action: str) -> Iterator[str]:
    service, _, operation = action.partition(":")
    names = known_actions(service)
    if "*" in action and action not in _STARS:
        yield f"the action {action} grants more than it names"
    elif not names:
        yield f"the service of {action} is not known here (zmanim_ami/gate/repository/iam.py)"
    elif not fnmatch.filter(names, operation):
        yield f"AWS has no action {action}"


@functools.cache
def known_actions(service: str) -> frozenset[str]:
    """Return the actions of a service: its operations by botocore's own model, and what is only an action."""
    other = _OTHER_ACTIONS.get(service, frozenset())
    if service not in _SERVICES:
        return other
    return other | frozenset(botocore.loaders.Loader().load_service_model(service, "service-2")["operations"])


def _resources(statement: Mapping[str, Any], actions: Sequence[str], file: str) -> Iterator[str]:
    resources = _list(statement.get("Resource"))
    condition = json.dumps(statement.get("Condition", {}))
    for action in actions if "*" in resources and "Condition" not in statement else []:
        yield from _true(
            (
                not _NO_RESOURCE.fullmatch(action),
                f"{action} on every resource, and IAM could name one (or a condition)",
            ),
            (_NEEDS_CONDITION.fullmatch(action), f"{action} on every resource without a condition that says whose"),
        )
    for resource in resources:
        if resource.startswith("arn:aws:"):
            yield from _wide(resource, condition, file)
    by_path = {each for each in resources if ":parameter/" in each} if "ssm:GetParametersByPath" in actions else set()
    twins = {each.removesuffix("/*") if each.endswith("/*") else f"{each}/*" for each in by_path}
    passes_any = "PassedToService" not in condition or any("*" in each for each in resources)
    yield from _true(
        (not resources, "no Resource"),
        (any(each != "*" and not each.startswith("arn:aws:") for each in resources), f"{resources} are no ARNs"),
        (twins - by_path, f"GetParametersByPath needs the path itself and what is below it: {twins - by_path} lacks"),
        ("iam:PassRole" in actions and passes_any, "iam:PassRole is of one role, to one service (iam:PassedToService)"),
    )


def _conditions(statement: Mapping[str, Any], actions: Sequence[str]) -> Iterator[str]:
    conditions: Mapping[str, Mapping[str, object]] = statement.get("Condition", {})
    present = {key for key, value in conditions.get("Null", {}).items() if value in {"false", False}}
    for operator, keys in conditions.items():
        for key in keys if operator.startswith("ForAllValues:") else ():
            if key not in present:
                yield f'ForAllValues is true of no {key} at all: "Null": {{"{key}": "false"}} beside it'
    texts = json.dumps([statement.get("Resource"), conditions])
    mails = any(action.startswith("ses:Send") for action in actions)
    mixed = len(actions) > 1 and not {"ec2:RunInstances", "ec2:CreateImage"}.isdisjoint(actions)
    yield from _true(
        (re.search(r"\$\{environment\}[*?]", texts), "${environment}* is of every environment that begins the same"),
        (mails and "ses:Recipients" not in texts, "mail to anybody: ses:Recipients says to whom"),
        (mixed, "RunInstances and CreateImage stand alone: what one makes is what the other one reads"),
    )


def _wide(resource: str, condition: str, file: str) -> Iterator[str]:
    service, region, account, name = resource.split(":", 5)[2:]
    narrowed = re.search("kms:(ViaService|RequestAlias)", condition)
    ours = "aws:ResourceAccount" in condition
    own = re.search(r"\$\{(environment|backups_bucket|releases_bucket)\}", name) or file != INSTANCE
    problems = {
        "other people's buckets": service == "s3" and re.match(r"[^/]*(\*|\$\{every_)", name) and not ours,
        "another account's or region's": service != "s3" and "*" in {region, account},
        # Buckets' names are no secret: who builds asks for those of every environment's channel.
        "every environment's parameters": service == "ssm"
        and re.match(r"parameter/(\*|zmanim/?\*?$|zmanim/\*(?!/releases-bucket$))", name),
        "every role": service == "iam" and name.startswith("role/") and "*" in name,
        "every key (kms:ViaService or kms:RequestAlias says which)": service == "kms"
        and name[-1:] == "*"
        and not narrowed,
        "not this environment's alone (${environment})": service in {"s3", "ssm", "logs"} and not own,
    }
    yield from (f"{resource} is {words}" for words, is_so in problems.items() if is_so)


def _denies_verified(statement: Mapping[str, Any]) -> bool:
    denied = statement.get("Effect") == "Deny" and "ec2:CreateTags" in _list(statement.get("Action"))
    return denied and "zmanim:verified" in json.dumps(statement.get("Condition", ""))
