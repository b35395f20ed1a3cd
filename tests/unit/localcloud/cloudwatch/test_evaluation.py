"""An alarm's state by its datapoints, against the tables of the Amazon CloudWatch User Guide."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.cloudwatch.evaluation import ALARM, INSUFFICIENT_DATA, OK, Datapoint, Evaluation, Rule, evaluate

RETAIN = "retain current state"
TREATMENTS = ("missing", "ignore", "breaching", "notBreaching")
STATES = (OK, ALARM, INSUFFICIENT_DATA)
START = datetime(2026, 11, 28, 10, 0, tzinfo=UTC)
# The pages' notation: 0 is within the threshold, X is not, - is missing; the newest is on the right.
VALUES = {"0": 1.0, "X": 9.0, "-": None}


def points(text: str) -> list[Datapoint]:
    """Return the datapoints of a row of the tables, the newest first."""
    words = text.split()
    return [Datapoint(START + timedelta(minutes=at), VALUES[word]) for at, word in enumerate(words)][::-1]


def judge(text: str, missing: str, *, needed: int = 3, state: str = OK) -> Evaluation:
    return evaluate(Rule("GreaterThanThreshold", 5.0, 3, needed, missing), points(text), state)


@pytest.mark.parametrize(
    ("needed", "row", "expected"),
    [
        # "Configuring how CloudWatch alarms treat missing data": 3 out of 3, and the range is 5.
        (3, "0 - X - X", (OK, OK, OK, OK)),
        (3, "0 - - - -", (OK, OK, OK, OK)),
        (3, "- - - - -", (INSUFFICIENT_DATA, RETAIN, ALARM, OK)),
        (3, "0 X X - X", (ALARM, ALARM, ALARM, ALARM)),
        (3, "- - X - -", (ALARM, RETAIN, ALARM, OK)),
        # The same page: 2 out of 3.
        (2, "0 - X - X", (ALARM, ALARM, ALARM, ALARM)),
        (2, "0 0 X 0 X", (ALARM, ALARM, ALARM, ALARM)),
        (2, "0 - X - -", (OK, OK, ALARM, OK)),
        (2, "- - - - 0", (OK, OK, ALARM, OK)),
        (2, "- - - X -", (ALARM, RETAIN, ALARM, OK)),
        # "Avoiding premature transitions to alarm state": not yet, for the next one may be within the threshold.
        (3, "- - - - X", (INSUFFICIENT_DATA, RETAIN, ALARM, OK)),
        (3, "- - - X -", (INSUFFICIENT_DATA, RETAIN, ALARM, OK)),
    ],
)
@pytest.mark.parametrize("state", STATES)
def test_the_tables_of_the_user_guide(needed: int, row: str, expected: tuple[str, ...], state: str) -> None:
    for missing, wanted in zip(TREATMENTS, expected, strict=True):
        result = judge(row, missing, needed=needed, state=state)
        assert result.state == (state if wanted == RETAIN else wanted), missing
        assert len(result.datapoints) == 3


@pytest.mark.parametrize(
    ("comparison", "values"),
    [
        ("GreaterThanOrEqualToThreshold", {4.0: OK, 5.0: ALARM, 6.0: ALARM}),
        ("GreaterThanThreshold", {4.0: OK, 5.0: OK, 6.0: ALARM}),
        ("LessThanThreshold", {4.0: ALARM, 5.0: OK, 6.0: OK}),
        ("LessThanOrEqualToThreshold", {4.0: ALARM, 5.0: ALARM, 6.0: OK}),
    ],
)
def test_each_comparison_has_its_own_side_for_the_threshold_itself(comparison: str, values: dict[float, str]) -> None:
    for value, wanted in values.items():
        assert evaluate(Rule(comparison, 5.0, 1), [Datapoint(START, value)], OK).state == wanted


@given(st.lists(st.sampled_from("0X-"), min_size=6, max_size=6), st.integers(1, 4), st.sampled_from(STATES))
def test_missing_data_matters_only_where_there_are_too_few_datapoints(row: list[str], needed: int, state: str) -> None:
    results = {
        missing: evaluate(Rule("GreaterThanThreshold", 5.0, 4, needed, missing), points(" ".join(row)), state)
        for missing in TREATMENTS
    }
    real = [word for word in row if word != "-"][-4:]
    enough = ALARM if real.count("X") >= needed else OK
    if len(real) == 4:
        assert {result.state for result in results.values()} == {enough}
    # A real datapoint is never passed over for a missing one, and the fill changes nothing else.
    assert all(sum(each.value is not None for each in one.datapoints) == len(real) for one in results.values())
    assert results["notBreaching"].state == enough
    assert results["breaching"].state == (ALARM if real.count("X") + 4 - len(real) >= needed else OK)
    assert results["ignore"].state in {enough, state}
    # The harsher treatment never says OK where the milder one alarms.
    if results["notBreaching"].state == ALARM:
        assert {result.state for result in results.values()} == {ALARM}


@given(st.lists(st.sampled_from("0X"), min_size=5, max_size=5), st.integers(1, 3))
def test_one_more_breach_never_ends_an_alarm(row: list[str], needed: int) -> None:
    for at, word in enumerate(row):
        worse = " ".join("X" if number == at else each for number, each in enumerate(row))
        if word == "0" and judge(" ".join(row), "missing", needed=needed).state == ALARM:
            assert judge(worse, "missing", needed=needed).state == ALARM


# Reasons as AWS's own notifications have them, collected from public ones; the values and times are ours. All but the
# last kind begin with "Threshold Crossed: ".
LESS, GREATER, AT_LEAST = "LessThanThreshold", "GreaterThanThreshold", "GreaterThanOrEqualToThreshold"
REASONS = [
    (
        Rule(LESS, 1.0, 2, 2, "breaching"),
        "- - - -",
        "no datapoints were received for 2 periods and 2 missing datapoints were treated as [Breaching].",
    ),
    (
        Rule(LESS, 1.0, 1, None, "notBreaching"),
        "- - -",
        "no datapoints were received for 1 period and 1 missing datapoint was treated as [NonBreaching].",
    ),
    (
        Rule(GREATER, 5.0, 3, 2, "breaching"),
        "- - - - 0",
        "1 datapoint was received for 3 periods and 2 missing datapoints were treated as [Breaching].",
    ),
    (
        Rule(GREATER, 5.0, 2, None),
        "0 0 X X",
        "2 datapoints [9.0 (28/11/26 10:03:00), 9.0 (28/11/26 10:02:00)] were greater than the threshold (5.0).",
    ),
    (
        Rule(LESS, 1.0, 1, None),
        "- - 0",
        "1 datapoint [1.0 (28/11/26 10:02:00)] was not less than the threshold (1.0).",
    ),
    (
        Rule(GREATER, 5.0, 3, 1),
        "0 0 0 0 X",
        (
            "1 out of the last 3 datapoints [9.0 (28/11/26 10:04:00)] was greater than the threshold (5.0)"
            " (minimum 1 datapoint for OK -> ALARM transition)."
        ),
    ),
    (
        Rule(AT_LEAST, 5.0, 2, 2, "breaching"),
        "- - - 0",
        (
            "1 out of the last 2 datapoints [1.0 (28/11/26 10:03:00)] was not greater than or equal to the threshold"
            " (5.0) and 1 missing datapoint was treated as [Breaching]"
            " (minimum 1 datapoint for ALARM -> OK transition)."
        ),
    ),
    (Rule(GREATER, 5.0, 3), "- - - - -", "Insufficient Data: 3 datapoints were unknown."),
]


@pytest.mark.parametrize(("rule", "row", "reason"), REASONS)
def test_the_reason_is_in_aws_s_own_words(rule: Rule, row: str, reason: str) -> None:
    assert evaluate(rule, points(row), OK).reason.removeprefix("Threshold Crossed: ") == reason
