from __future__ import annotations

from typing import Any

import pytest

from tests.github.expressions import Evaluator, ExpressionUnknown

CONTEXT = {
    "github": {"ref_name": "v1.0.0-ami", "run_id": "7"},
    "inputs": {},
    "vars": {"AWS_ROLE_ARN": "arn:x", "EMPTY": ""},
    "secrets": {},
}


def evaluator(**status: bool) -> Evaluator:
    return Evaluator(CONTEXT, {"success": True, "failure": False, "cancelled": False, **status})


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("github.ref_name", "v1.0.0-ami"),
        ("inputs.version", None),
        ("inputs.version || github.ref_name", "v1.0.0-ami"),
        ("inputs.version && 'x' || 'y'", "y"),
        ("vars.AWS_ROLE_ARN && format('{0}-{1}', 'a', github.run_id)", "a-7"),
        ("vars.AWS_ROLE_ARN != ''", True),
        ("vars.EMPTY == ''", True),
        ("vars.MISSING == ''", True),
        ("!vars.EMPTY", True),
        ("'A' == 'a'", True),
        ("'it''s'", "it's"),
        ("1 == '1'", True),
        ("null == false", True),
        ("('a' || 'b') && 'c'", "c"),
        ("always()", True),
    ],
)
def test_expressions_mean_what_they_mean_on_github(source: str, value: Any) -> None:
    assert evaluator().value(source) == value


@pytest.mark.parametrize(
    "source",
    ["", "steps.x", "github.nothing", "hashFiles('x')", "'a", "a.b", "1 +", "(1", "1 1", "vars.", "a['b']", "> 1"],
)
def test_an_expression_that_is_not_known_is_an_error(source: str) -> None:
    with pytest.raises((ExpressionUnknown, IndexError)):
        evaluator().value(source)


def test_texts_are_filled_in() -> None:
    assert evaluator().text("x-${{ github.run_id }}-${{ inputs.a }}.") == "x-7-."


@pytest.mark.parametrize(
    ("text", "status", "holds"),
    [
        ("", {}, True),
        ("", {"success": False, "failure": True}, False),
        ("always()", {"success": False}, True),
        ("vars.EMPTY == ''", {}, True),
        ("vars.EMPTY == ''", {"success": False}, False),
        ("failure() || cancelled()", {"success": False, "cancelled": True}, True),
        ("${{ vars.AWS_ROLE_ARN }}", {}, True),
    ],
)
def test_a_condition_without_a_status_asks_for_success_as_well(text: str, status: dict[str, bool], holds: bool) -> None:
    assert evaluator(**status).condition(text) is holds
