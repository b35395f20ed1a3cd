"""What can be reached in a graph."""

from __future__ import annotations

import pytest

from zmanim_ami.gate.graph import reachable

EDGES = {"a": ["b"], "b": ["c", "a"], "d": ["c"]}


@pytest.mark.parametrize(
    ("start", "expected"), [([], set()), (["a"], {"a", "b", "c"}), (["d"], {"c", "d"}), (["a", "d"], set("abcd"))]
)
def test_everything_that_follows_is_reached_once_whatever_the_circles(start: list[str], expected: set[str]) -> None:
    assert reachable(start, lambda name: EDGES.get(name, [])) == expected
