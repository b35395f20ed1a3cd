"""The same questions, asked of every statement of every policy: by deciding, as the local cloud does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from localcloud.iam.patterns import matches
from localcloud.iam.policy import Principal, Request, Statement, decide, read
from tests.support import ROOT, bucket_name
from zmanim_ami.pipeline.account import public_parameters, roles
from zmanim_ami.pipeline.settings import Settings

POLICIES = ROOT / "infrastructure" / "iam"
ACCOUNT, REGION = "123456789012", "eu-west-1"
ROLE = Principal(ACCOUNT, f"arn:aws:iam::{ACCOUNT}:role/mine")
FILES = sorted(path.name for path in POLICIES.glob("*.json") if "trust" not in path.name)
SETTINGS = Settings()
# Names of other environments that begin with "prod": none may be taken for it.
SIBLINGS = ("prod-eu", "prod2", "production", "prod_", "prod.old")
RUN = {"aws:requesttag/zmanim:run": ("7",), "aws:tagkeys": ("zmanim:run",)}
# Of a type of resource, which operations make one: elsewhere a tag that comes with the call says nothing of it.
MADE_BY = {
    "instance": {"RunInstances"},
    "volume": {"RunInstances"},
    "network-interface": {"RunInstances"},
    "image": {"CreateImage", "CopyImage"},
    "snapshot": {"CreateImage", "CopyImage"},
    "key-pair": {"CreateKeyPair"},
    "security-group": {"CreateSecurityGroup"},
}
# What may be used though it has no tag of ours: a launch's source and where it is put.
UNTAGGED = {("RunInstances", "image"), ("RunInstances", "subnet"), ("RunInstances", "network-interface")} | {
    ("CreateSecurityGroup", "vpc")
}


def text(name: str, environment: str = "prod") -> str:
    values = {
        "environment": environment,
        "account": ACCOUNT,
        "region": REGION,
        "parameters": f"/zmanim/{environment}",
        "mail_from": SETTINGS.mail_from,
        "mail_to": SETTINGS.mail_to,
        **{f"{kind}_bucket": f"zmanim-{kind}-{environment}" for kind in public_parameters.KINDS},
        "every_releases_bucket": public_parameters.pattern(SETTINGS.releases_bucket),
        "verify_releases_bucket": bucket_name("releases", "verify"),
    }
    return json.dumps(roles.read(POLICIES / name, [values], ("eu-central-1",)))


def statements(name: str, environment: str = "prod") -> tuple[Statement, ...]:
    return read(text(name, environment), name)


def allowed(name: str, action: str, resource: str, context: Mapping[str, tuple[str, ...]]) -> bool:
    return decide(Request(action, resource, context), ROLE, statements(name)).allowed


def arn(kind: str) -> str:
    owner = "" if kind in {"image", "snapshot"} else ACCOUNT
    return f"arn:aws:ec2:{REGION}:{owner}:{kind}/{kind}-1"


def every(effect: str = "Allow") -> Iterator[tuple[str, Statement]]:
    for name in FILES:
        yield from ((name, statement) for statement in statements(name) if statement.effect == effect)


# ---- each hole that was there ----


def test_tags_can_not_be_taken_away_by_a_call_that_names_none() -> None:
    """DeleteTags without tags takes away every tag, and "all of none" is true: an image would lose what it is."""
    mine = {"ec2:resourcetag/zmanim:run": ("7",)}
    for action in ("ec2:DeleteTags", "ec2:CreateTags"):
        assert not allowed("verify.json", action, arn("image"), mine)
        assert allowed("verify.json", action, arn("image"), {**mine, "aws:tagkeys": ("zmanim:verified",)})
        assert not allowed("verify.json", action, arn("image"), {"aws:tagkeys": ("zmanim:verified",)})


@pytest.mark.parametrize("sibling", SIBLINGS)
def test_metrics_of_an_environment_whose_name_begins_the_same_can_not_be_written(sibling: str) -> None:
    def put(namespace: str) -> bool:
        context = {"cloudwatch:namespace": (namespace,)}
        return allowed("instance.json", "cloudwatch:PutMetricData", "*", context)

    assert put("zmanim/prod")
    assert not put(f"zmanim/{sibling}")


def test_mail_goes_to_nobody_but_whom_the_image_tells_of_failures() -> None:
    def send(*to: str) -> bool:
        context = {"ses:fromaddress": (SETTINGS.mail_from,), "ses:recipients": to}
        return allowed("instance.json", "ses:SendEmail", f"arn:aws:ses:{REGION}:{ACCOUNT}:identity/x", context)

    assert send(SETTINGS.mail_to)
    assert not send("somebody@example.org")
    assert not send(SETTINGS.mail_to, "somebody@example.org")
    assert not send()


def test_a_tag_that_comes_with_a_call_opens_nothing_that_is_there_already() -> None:
    """One statement for CreateImage and RunInstances let CreateImage of production, and a launch of its snapshot."""
    for action, kind in (("CreateImage", "instance"), ("RunInstances", "snapshot"), ("RunInstances", "key-pair")):
        assert not allowed("build.json", f"ec2:{action}", arn(kind), RUN)
    assert allowed("build.json", "ec2:CreateImage", arn("image"), RUN)
    assert allowed("build.json", "ec2:RunInstances", arn("instance"), RUN)


def test_who_builds_changes_nothing_of_an_image_that_is_verified() -> None:
    mine = {"ec2:resourcetag/zmanim:run": ("7",), "aws:tagkeys": ("zmanim:version",)}
    for action in ("CreateTags", "ModifyImageAttribute", "DeregisterImage"):
        assert allowed("build.json", f"ec2:{action}", arn("image"), mine)
        verified = {**mine, "ec2:resourcetag/zmanim:verified": ("0" * 64,)}
        assert not allowed("build.json", f"ec2:{action}", arn("image"), verified)


# ---- the same of every statement ----


def test_no_statement_is_met_by_a_set_of_values_that_is_empty() -> None:
    """ForAllValues is true of a request that has none of the values."""
    open_ones = [
        f"{name}: {statement.sid}"
        for name, statement in every()
        for condition in statement.conditions
        if condition.each == "ForAllValues"
        and not any(
            other.operator == "Null" and other.key == condition.key and other.wanted == ("false",)
            for other in statement.conditions
        )
    ]
    assert open_ones == []


@pytest.mark.parametrize("sibling", SIBLINGS)
@pytest.mark.parametrize("name", FILES)
def test_no_statement_reaches_an_environment_whose_name_begins_the_same(name: str, sibling: str) -> None:
    """What a policy of prod names, with its stars, fits nothing that the sibling's policy names."""
    for mine, theirs in zip(statements(name), statements(name, sibling), strict=True):
        pairs = [
            *zip(mine.resources, theirs.resources, strict=True),
            *(
                pair
                for one, other in zip(mine.conditions, theirs.conditions, strict=True)
                for pair in zip(one.wanted, other.wanted, strict=True)
            ),
        ]
        for pattern, other in pairs:
            if pattern != other:
                for filled in ("", "x", "x/y"):
                    assert not matches(pattern, other.replace("*", filled)), f"{mine.sid}: {pattern} fits {other}"


def test_every_statement_about_mail_says_from_whom_and_to_whom() -> None:
    for name, statement in every():
        if any(action.startswith("ses:") for action in statement.actions):
            keys = {condition.key for condition in statement.conditions}
            assert {"ses:FromAddress", "ses:Recipients"} <= keys, f"{name}: {statement.sid}"


@pytest.mark.parametrize("kind", [*MADE_BY, "subnet", "vpc"])
def test_of_every_action_on_ec2_only_what_it_makes_is_judged_by_the_tags_of_the_call(kind: str) -> None:
    granted = {action.partition(":")[2] for _, statement in every() for action in statement.actions if "ec2:" in action}
    for action in granted - {"CreateTags"}:  # whose tags are the call's own: TagItWhileMakingIt names the operations
        if action.startswith("Describe") or (action, kind) in UNTAGGED or action in MADE_BY.get(kind, set()):
            continue
        assert not allowed("build.json", f"ec2:{action}", arn(kind), RUN), f"{action} on any {kind}"


def test_every_tag_that_is_written_while_something_is_made_names_the_operations() -> None:
    for name, statement in every():
        if "ec2:CreateTags" in statement.actions:
            keys = {condition.key for condition in statement.conditions}
            own = any("ResourceTag" in key for key in keys)
            assert own or "ec2:CreateAction" in keys, f"{name}: {statement.sid}"


def test_every_file_is_a_policy_with_no_placeholder_left() -> None:
    for name in FILES:
        document: Any = json.loads(text(name))
        assert document["Statement"]
        assert "${" not in text(name).replace("${aws:", "")
