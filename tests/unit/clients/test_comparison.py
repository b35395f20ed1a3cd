"""What the comparison of moto's own tests says is wrong, and the list of what is expected."""

from __future__ import annotations

import pytest

from tests.clients.moto_suite import DIFFERENCES, KINDS, SERVICES, Outcome, compare, differences, to_compare

PASSED, FAILED = Outcome("passed"), Outcome("failed", "AssertionError")
PLAIN = {"a": PASSED, "b": PASSED, "c": FAILED, "d": Outcome("skipped")}
LISTED = """
[[difference]]
kind = "stricter"
reason = "as AWS documents it"
tests = ["b"]
"""


def test_a_listed_failure_is_fine_and_counted() -> None:
    here = {"a": PASSED, "b": FAILED, "c": FAILED, "d": Outcome("skipped")}
    assert to_compare(here, differences(LISTED)) == ["b", "c"]
    comparison = compare(here, PLAIN, differences(LISTED))
    assert comparison.wrong == ""
    assert (comparison.tests, comparison.passed, comparison.listed["stricter"]) == (3, 1, 1)


@pytest.mark.parametrize(
    ("here", "wrong"),
    [
        ({"a": FAILED, "b": FAILED}, "passes on plain moto alone: a: AssertionError"),
        ({"a": Outcome("skipped"), "b": FAILED}, "passes on plain moto alone: a: "),
        ({"b": FAILED}, "passes on plain moto alone: a: it was not run"),
        ({"a": PASSED, "b": PASSED}, "passes here, too, and is listed: b"),
    ],
)
def test_what_is_not_listed_and_what_is_for_nothing_is_wrong(here: dict[str, Outcome], wrong: str) -> None:
    assert compare(here, PLAIN, differences(LISTED)).wrong == wrong


def test_what_passes_at_times_may_pass_and_may_fail() -> None:
    listed = differences(LISTED + "varies = true")
    assert [compare({"a": PASSED, "b": each}, PLAIN, listed).wrong for each in (PASSED, FAILED)] == ["", ""]


def test_a_listed_test_that_fails_everywhere_is_stale() -> None:
    listed = differences(LISTED.replace('"b"', '"b", "c", "gone"'))
    wrong = compare({"a": PASSED, "b": FAILED, "c": FAILED}, PLAIN, listed).wrong.splitlines()
    assert wrong == [f"is listed, and does not pass on plain moto: {name}" for name in ("c", "gone")]


@pytest.mark.parametrize(
    "text", [LISTED.replace("stricter", "ours"), LISTED.replace("as AWS documents it", "so"), LISTED * 2]
)
def test_a_list_without_kinds_and_reasons_or_with_a_test_twice_is_none(text: str) -> None:
    with pytest.raises(AssertionError):
        differences(text)


def test_the_list_is_one_and_of_the_services_that_are_run() -> None:
    listed = differences(DIFFERENCES.read_text())
    assert {difference.kind for difference in listed.values()} <= set(KINDS)
    assert {name.split("/")[1] for name in listed} <= {f"test_{service}" for service in SERVICES}
