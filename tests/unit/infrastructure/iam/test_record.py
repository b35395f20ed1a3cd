"""The record of what was asked of IAM, held against what the policies allow."""

from __future__ import annotations

import tomllib

from localcloud.iam.policy import Request, read
from tests.support import ROOT
from tests.support.replay import Action, RecordedRequest, unneeded

POLICIES = ROOT / "infrastructure" / "iam"


def test_an_action_that_no_request_needed_is_found_and_one_that_is_needed_is_not() -> None:
    statement = {"Sid": "S", "Effect": "Allow", "Action": ["s3:GetObject", "s3:PutObject"], "Resource": "*"}
    again = {"Sid": "T", "Effect": "Allow", "Action": "s3:Get*", "Resource": "*"}
    deny = {"Effect": "Deny", "Action": "s3:DeleteObject", "Resource": "*"}
    once = read({"Version": "2012-10-17", "Statement": [statement, deny]}, "p")
    twice = read({"Version": "2012-10-17", "Statement": [statement, again]}, "p")
    record = [RecordedRequest("r", _request("s3:GetObject"))]
    assert unneeded({"r": once}, record) == [Action("r", "p", "S", "s3:PutObject")]
    assert [each.action for each in unneeded({"r": twice}, record)] == ["s3:GetObject", "s3:PutObject", "s3:Get*"]
    assert len(unneeded({"other": once}, record)) == 2


def test_what_only_aws_asks_for_is_in_a_policy_and_has_a_page_of_its_documentation() -> None:
    pages = tomllib.loads((POLICIES / "only-aws-asks.toml").read_text())
    exempt = {action for page in pages.values() for action in page["actions"]}
    granted = {
        action
        for path in POLICIES.glob("*.json")
        for statement in read(path.read_text(), path.stem)
        for action in statement.actions
    }
    assert exempt <= granted
    assert all(page.startswith("https://docs.aws.amazon.com/") for page in pages)


def _request(action: str) -> Request:
    return Request(action, "arn:aws:s3:::box/a")
