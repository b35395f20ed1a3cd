from __future__ import annotations

import fnmatch
import json
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.iam.patterns import arn_matches, matches
from localcloud.iam.policy import Decision, PolicyInvalid, Principal, Request, Statement, decide, read

ME = Principal("123456789012", arn="arn:aws:iam::123456789012:role/me", session_arn="arn:aws:sts::123456789012:x/me/s")
BUCKET = "arn:aws:s3:::box"


def statement(**elements: Any) -> tuple[Statement, ...]:
    whole = {"Effect": "Allow", "Action": "*", "Resource": "*", **elements}
    whole = {name: value for name, value in whole.items() if value is not None}
    return read({"Version": "2012-10-17", "Statement": [whole]}, "p")


def allowed(
    *statements: Statement,
    action: str = "s3:GetObject",
    resource: str = f"{BUCKET}/a",
    context: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
) -> bool:
    return decide(Request(action, resource, context), ME, statements).allowed


def condition(operator: str, key: str, value: Any, values: tuple[str, ...] | None) -> bool:
    request = Request("s3:GetObject", BUCKET, {} if values is None else {key.lower(): values})
    return decide(request, ME, statement(Condition={operator: {key: value}})).allowed


def test_nothing_is_allowed_that_no_statement_allows() -> None:
    assert not allowed()
    assert not allowed(*statement(Action="s3:PutObject"))
    assert not allowed(*statement(Resource="arn:aws:s3:::other/*"))


def test_actions_fit_in_any_case_and_with_wildcards_and_resources_do_not_fit_in_any_case() -> None:
    assert allowed(*statement(Action="S3:getobject"))
    assert allowed(*statement(Action=["ec2:*", "s3:Get*"]))
    assert not allowed(*statement(Resource="arn:aws:s3:::BOX/*"))


def test_a_deny_that_applies_wins_over_every_allow() -> None:
    deny = statement(Effect="Deny", Action="s3:Get*")
    assert not allowed(*statement(), *deny)
    assert allowed(*statement(), *statement(Effect="Deny", Action="s3:Put*"))


def test_what_not_action_and_not_resource_leave_out_is_not_theirs() -> None:
    assert allowed(*statement(Action=None, NotAction="ec2:*"))
    assert not allowed(*statement(Action=None, NotAction="s3:*"))
    assert allowed(*statement(Resource=None, NotResource="arn:aws:s3:::other/*"))
    assert not allowed(*statement(Resource=None, NotResource=f"{BUCKET}/*"))


def test_a_statement_whose_condition_is_not_met_is_passed_over_and_denies_nothing() -> None:
    unmet = statement(Condition={"StringEquals": {"aws:RequestedRegion": "us-east-1"}})
    assert not allowed(*unmet, context={"aws:requestedregion": ("eu-west-1",)})
    assert allowed(*unmet, *statement(), context={"aws:requestedregion": ("eu-west-1",)})


@pytest.mark.parametrize(
    ("operator", "wanted", "values", "met"),
    [
        ("StringEquals", "a", ("a",), True),
        ("StringEquals", ["a", "b"], ("b",), True),
        ("StringEquals", "a*", ("ab",), False),
        ("StringEquals", "a", None, False),
        ("StringEqualsIfExists", "a", None, True),
        ("StringEqualsIfExists", "a", ("b",), False),
        ("StringEqualsIgnoreCase", "A", ("a",), True),
        ("StringNotEquals", "a", ("b",), True),
        ("StringNotEquals", ["a", "b"], ("b",), False),
        ("StringNotEquals", "a", None, True),
        ("StringLike", "zmanim/*", ("zmanim/prod",), True),
        ("StringLike", "a?", ("abc",), False),
        ("StringNotLike", "a*", ("abc",), False),
        ("ArnLike", "arn:aws:iam::*:role/z*", ("arn:aws:iam::1:role/zm",), True),
        ("ArnLike", "arn:aws:*:role/z*", ("arn:aws:iam::1:role/zm",), False),
        ("ArnNotLike", "arn:aws:iam::*:role/z*", ("arn:aws:iam::1:role/zm",), False),
        ("Bool", True, ("true",), True),
        ("Bool", "false", ("true",), False),
        ("Null", "true", None, True),
        ("Null", True, ("x",), False),
        ("Null", False, ("x",), True),
        ("NumericLessThan", "10", ("9.5",), True),
        ("NumericGreaterThanEquals", 10, ("9",), False),
        ("NumericEquals", "10", ("ten",), False),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", ("2026-02-01T00:00:00Z",), True),
        ("DateLessThan", "2026-01-01T00:00:00Z", ("1767225601",), False),
        ("IpAddress", "10.0.0.0/8", ("10.1.2.3",), True),
        ("NotIpAddress", "10.0.0.0/8", ("10.1.2.3",), False),
        ("ForAllValues:StringEquals", ["a", "b"], ("a", "b"), True),
        ("ForAllValues:StringEquals", ["a"], ("a", "b"), False),
        ("ForAllValues:StringEquals", ["a"], None, True),
        ("ForAnyValue:StringEquals", ["a"], ("a", "b"), True),
        ("ForAnyValue:StringEquals", ["c"], ("a", "b"), False),
        ("ForAnyValue:StringEquals", ["a"], None, False),
    ],
)
def test_operators_mean_what_they_mean_in_iam(
    operator: str, wanted: Any, values: tuple[str, ...] | None, met: bool
) -> None:
    assert condition(operator, "some:Key", wanted, values) is met


def test_every_key_of_a_condition_has_to_be_met() -> None:
    both = statement(Condition={"StringEquals": {"a:x": "1"}, "Bool": {"a:y": "true"}})
    assert allowed(*both, context={"a:x": ("1",), "a:y": ("true",)})
    assert not allowed(*both, context={"a:x": ("1",), "a:y": ("false",)})
    assert not allowed(*both, context={"a:x": ("2",), "a:y": ("true",)})


def test_variables_stand_for_the_requests_values_and_what_has_none_fits_nothing() -> None:
    own = statement(Resource=f"{BUCKET}/${{aws:PrincipalTag/team}}/*")
    where = f"{BUCKET}/red/a"
    assert allowed(*own, resource=where, context={"aws:principaltag/team": ("red",)})
    assert not allowed(*own, resource=where, context={"aws:principaltag/team": ("*",)})
    assert not allowed(*own, resource=where)
    assert allowed(*statement(Resource=f"{BUCKET}/${{aws:PrincipalTag/team, 'red'}}/*"), resource=where)
    assert allowed(*statement(Resource=f"{BUCKET}/${{*}}"), resource=f"{BUCKET}/*")
    assert not allowed(*statement(Resource=f"{BUCKET}/${{*}}"), resource=where)
    old = read({"Statement": [{"Effect": "Allow", "Action": "*", "Resource": f"{BUCKET}/${{*}}"}]}, "p")
    assert not allowed(*old, resource=f"{BUCKET}/*")


def test_a_condition_that_nobody_can_decide_counts_as_met_and_is_named() -> None:
    request = Request("s3:GetObject", BUCKET, {}, lambda key: key != "aws:sourcevpce")
    condition_of_endpoint = {"StringEquals": {"aws:SourceVpce": "vpce-1"}}
    decision = decide(request, ME, statement(Condition=condition_of_endpoint))
    assert decision.allowed
    assert decision.undecided == ("aws:SourceVpce",)
    denied = decide(request, ME, (*statement(), *statement(Effect="Deny", Condition=condition_of_endpoint)))
    assert not denied.allowed
    assert denied.undecided == ("aws:SourceVpce",)
    other = decide(request, ME, statement(Condition={**condition_of_endpoint, "Bool": {"a:b": "true"}}))
    assert not other.allowed
    assert other.undecided == ()


def test_the_decision_names_the_statement_and_its_pattern() -> None:
    decision = decide(Request("s3:GetObject", BUCKET), ME, statement(Sid="Look", Action=["ec2:*", "s3:Get*"]))
    assert decision == Decision(True, "allowed", "p", "Look", "s3:Get*")


def test_a_resources_policy_may_allow_by_name_or_leave_it_to_the_account() -> None:
    request = Request("kms:Sign", "arn:aws:kms:eu-west-1:123456789012:key/k")
    account = statement(Principal={"AWS": "arn:aws:iam::123456789012:root"})
    named = statement(Principal={"AWS": ME.arn})
    mine = statement(Action="kms:Sign")
    assert decide(request, ME, (), resource=named, resource_decides=True).allowed
    assert not decide(request, ME, (), resource=account, resource_decides=True).allowed
    assert decide(request, ME, mine, resource=account, resource_decides=True).allowed
    assert not decide(request, ME, mine, resource=(), resource_decides=True).allowed
    assert decide(request, ME, mine, resource=()).allowed
    assert not decide(request, ME, mine, resource=statement(Effect="Deny", Principal="*")).allowed
    others = statement(Principal={"AWS": "arn:aws:iam::123456789012:role/other"})
    assert not decide(request, ME, (), resource=others).allowed
    everybody_else = statement(Effect="Deny", NotPrincipal={"AWS": ME.arn})
    assert decide(request, ME, mine, resource=everybody_else).allowed


def test_a_session_policy_only_narrows() -> None:
    request = Request("s3:GetObject", BUCKET)
    assert decide(request, ME, statement(), session=statement()).allowed
    assert not decide(request, ME, statement(), session=statement(Action="ec2:*")).allowed
    assert not decide(request, ME, (), session=statement()).allowed


@pytest.mark.parametrize(
    "text",
    [
        "no json",
        "[]",
        '{"Version": "2012-10-17"}',
        '{"Version": "1", "Statement": []}',
        '{"Statement": [{"Effect": "Maybe", "Action": "*", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Resource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Ressource": "*"}]}',
        '{"Statement": [{"Effect": "Allow", "Action": "*", "Condition": {"StringEqual": {"a": "b"}}}]}',
        '{"Statement": ["Allow"]}',
    ],
)
def test_what_is_no_policy_is_refused(text: str) -> None:
    with pytest.raises(PolicyInvalid):
        read(text, "p")


TEXTS = st.text("abz:/*?.[$+", max_size=12)


@given(TEXTS, TEXTS)
def test_wildcards_fit_as_file_names_do(pattern: str, text: str) -> None:
    reference = pattern.replace("[", "[[]")
    assert matches(pattern, text) == fnmatch.fnmatchcase(text, reference)


@given(st.lists(st.text("abz/", max_size=3), min_size=6, max_size=6))
def test_an_arn_fits_itself_and_stars_in_all_of_its_parts(parts: list[str]) -> None:
    arn = ":".join(parts)
    assert arn_matches(arn, arn)
    assert arn_matches("*:*:*:*:*:*", arn)
    assert not arn_matches("*", arn)


ACTIONS = st.sampled_from(["s3:GetObject", "s3:PutObject", "ec2:RunInstances", "s3:*", "*", "ec2:Run*"])
RESOURCES = st.sampled_from([f"{BUCKET}/*", BUCKET, "*", f"{BUCKET}/a"])
STATEMENTS = st.builds(
    lambda effect, actions, resource, tag: statement(
        Effect=effect,
        Action=actions,
        Resource=resource,
        Condition={"StringEquals": {"aws:RequestTag/t": tag}} if tag else None,
    )[0],
    st.sampled_from(["Allow", "Deny"]),
    st.lists(ACTIONS, min_size=1, max_size=3),
    RESOURCES,
    st.sampled_from(["", "1", "2"]),
)
REQUESTS = st.builds(
    lambda action, resource, tag: Request(action, resource, {"aws:requesttag/t": (tag,)} if tag else {}),
    st.sampled_from(["s3:GetObject", "s3:PutObject", "ec2:RunInstances"]),
    st.sampled_from([BUCKET, f"{BUCKET}/a"]),
    st.sampled_from(["", "1", "2"]),
)


@given(st.lists(STATEMENTS, max_size=5), STATEMENTS, REQUESTS)
def test_one_more_deny_never_allows_and_one_more_allow_never_denies(
    statements: list[Statement], more: Statement, request: Request
) -> None:
    before = decide(request, ME, statements).allowed
    assert not decide(request, ME, [*statements, replace(more, effect="Deny")]).allowed or before
    assert decide(request, ME, [*statements, replace(more, effect="Allow")]).allowed or not before


@given(st.lists(STATEMENTS, max_size=5), REQUESTS)
def test_the_order_of_statements_does_not_matter(statements: list[Statement], request: Request) -> None:
    forwards, backwards = decide(request, ME, statements), decide(request, ME, statements[::-1])
    assert forwards.allowed == backwards.allowed


@given(st.lists(STATEMENTS, max_size=5), REQUESTS)
def test_no_deny_that_applies_is_ever_overruled(statements: list[Statement], request: Request) -> None:
    if any(
        each.effect == "Deny" and decide(request, ME, [replace(each, effect="Allow")]).allowed for each in statements
    ):
        assert not decide(request, ME, statements).allowed


def test_a_policy_is_read_from_text_and_from_an_object_alike() -> None:
    document = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
    assert read(document, "p") == read(json.dumps(document), "p")
