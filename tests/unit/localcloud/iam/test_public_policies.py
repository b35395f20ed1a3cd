"""Which bucket policies are public: S3's user guide, "The meaning of public"."""

from __future__ import annotations

from typing import Any

import pytest

from localcloud.iam.policy import read
from localcloud.iam.public_policies import is_public

ORGANIZATION = {"StringEquals": {"aws:PrincipalOrgID": "o-example"}}


@pytest.mark.parametrize(
    ("public", "changes"),
    [
        (True, {}),
        (True, {"Principal": {"AWS": "*"}}),
        (True, {"Principal": {"AWS": ["arn:aws:iam::123456789012:root", "*"]}}),
        (False, {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}),
        (False, {"Principal": {"Service": "logging.s3.amazonaws.com"}}),
        (False, {"Effect": "Deny"}),
        (False, {"Condition": ORGANIZATION}),
        (True, {"Condition": {"StringEqualsIfExists": ORGANIZATION["StringEquals"]}}),
        (True, {"Condition": {"ForAllValues:StringEquals": ORGANIZATION["StringEquals"]}}),
        (True, {"Condition": {"StringNotEquals": ORGANIZATION["StringEquals"]}}),
        (True, {"Condition": {"StringLike": {"aws:SourceVpc": "vpc-*"}}}),
        (False, {"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-91237329"}}}),
        (True, {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}),
        (False, {"Condition": {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "2001:db8::/32"]}}}),
        (True, {"Condition": {"IpAddress": {"aws:SourceIp": ["192.0.2.0/24", "0.0.0.0/0"]}}}),
        (True, {"Condition": {"IpAddress": {"aws:SourceIp": "2000::/16"}}}),
        (True, {"Condition": {"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}}),
    ],
)
def test_a_policy_is_public_that_lets_everybody_and_narrows_it_by_nothing_fixed(
    public: bool, changes: dict[str, Any]
) -> None:
    statement = {"Effect": "Allow", "Principal": "*", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b/*"}
    document = {"Version": "2012-10-17", "Statement": [{**statement, **changes}]}
    assert is_public(read(document, "policy")) is public
