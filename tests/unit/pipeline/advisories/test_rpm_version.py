"""rpm's ordering of versions, against rpm itself where this machine has it."""

from __future__ import annotations

import shutil
import subprocess
from functools import cmp_to_key

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.images.inventories import rpm
from zmanim_ami.pipeline.advisories.rpm_version import compare, compare_texts

RPM = shutil.which("rpm")
# The rules, a line each; what rpm 4.18 was seen to answer.
ORDER = [
    ("1.0", "1.0", 0),
    ("1.0", "2.0", -1),
    ("2.0.1", "2.0", 1),
    ("1.10", "1.9", 1),
    ("1.010", "1.10", 0),
    ("5.5p10", "5.5p1", 1),
    ("10xyz", "10.1xyz", -1),
    ("xyz.4", "8", -1),
    ("6.0.rc1", "6.0", 1),
    ("10b2", "10a1", 1),
    ("1.0a", "1.0aa", -1),
    ("4_0", "4.0", 0),
    ("1_", "1", 0),
    ("+1", "_1", 0),
    ("1.0~rc1", "1.0", -1),
    ("1.0~rc1", "1.0~rc2", -1),
    ("1.0~rc1~git123", "1.0~rc1", -1),
    ("1.0^", "1.0", 1),
    ("1.0^git1", "1.01", -1),
    ("1.0^git1", "1.0.1", -1),
    ("1.0^git1~pre", "1.0^git1", -1),
    ("1.0~rc1^git1", "1.0~rc1", 1),
    ("~", "", -1),
    ("^", "", 1),
    ("a", "1", -1),
    ("20260930", "9", 1),
]
# No dash: it parts a version from its release.
TEXTS = st.text(st.sampled_from("019aAb.~^+_"), max_size=8)


def asked_of_rpm(pairs: list[tuple[str, str]]) -> list[int]:
    calls = "".join(f'print(rpm.vercmp("{one}", "{other}") .. " ")' for one, other in pairs)
    answer = subprocess.run([str(RPM), "--eval", f"%{{lua:{calls}}}"], check=True, capture_output=True, text=True)
    return [int(word) for word in answer.stdout.split()]


@pytest.mark.parametrize(("one", "other", "answer"), ORDER)
def test_each_rule_of_rpm_s_order(one: str, other: str, answer: int) -> None:
    assert compare_texts(one, other) == answer
    assert compare_texts(other, one) == -answer
    if RPM and one and other:
        assert asked_of_rpm([(one, other)]) == [answer]


# rpm is started once for forty pairs.
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(TEXTS.filter(bool), TEXTS.filter(bool)), min_size=40, max_size=40))
def test_the_order_is_rpm_s_own_and_the_same_from_both_sides(pairs: list[tuple[str, str]]) -> None:
    answers = [compare_texts(one, other) for one, other in pairs]
    assert answers == [-compare_texts(other, one) for one, other in pairs]
    if RPM:
        assert answers == asked_of_rpm(pairs)


@given(st.lists(TEXTS, min_size=3, max_size=6))
def test_what_is_sorted_by_it_is_sorted(texts: list[str]) -> None:
    in_order = sorted(texts, key=cmp_to_key(compare_texts))
    for number, text in enumerate(in_order):
        assert all(compare_texts(text, later) <= 0 for later in in_order[number:])


def test_an_epoch_decides_before_a_version_and_that_before_a_release() -> None:
    assert compare(rpm("a", "1.0", "1", "1"), rpm("a", "9.0", "9", "0")) == 1
    assert compare(rpm("a", "1.0", "9"), rpm("a", "1.1", "1")) == -1
    assert compare(rpm("a", "1.0", "1.amzn2023.0.2"), rpm("a", "1.0", "1.amzn2023.0.10")) == -1
    assert compare(rpm("a", "1.0", "1", ""), rpm("a", "1.0", "1", "0")) == 0
