"""What Go has compiled is bounded: the least recently used goes, and nothing while something is being built."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_ami.toolchain import go_caches
from zmanim_ami.toolchain.go_caches import Compiled, bound, in_use, surplus

BLOCK = 4096
_HOUR = 3600


def compiled(cache: Path, name: str, blocks: int, hours_ago: float) -> Path:
    path = go_caches.build(cache) / name[:2] / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * blocks * BLOCK)
    then = 1_000_000 * _HOUR - hours_ago * _HOUR
    os.utime(path, (then, then))
    return path


def test_what_was_used_least_recently_goes_and_of_one_hour_the_largest(tmp_path: Path) -> None:
    old = compiled(tmp_path, "aa1-d", 1, hours_ago=30)
    large, small = compiled(tmp_path, "aa2-d", 5, hours_ago=0.2), compiled(tmp_path, "bb3-d", 2, hours_ago=0.8)
    note = go_caches.build(tmp_path) / "trim.txt"
    note.write_text("Go's own")
    bound(tmp_path, 8 * BLOCK)
    assert [path.exists() for path in (old, large, small)] == [True, True, True]
    bound(tmp_path, 7 * BLOCK)
    assert [path.exists() for path in (old, large, small)] == [False, True, True]
    bound(tmp_path, 6 * BLOCK)
    assert [path.exists() for path in (old, large, small)] == [False, False, True]
    bound(tmp_path, 0)
    assert note.exists()


def test_nothing_goes_while_something_is_being_built(tmp_path: Path) -> None:
    path = compiled(tmp_path, "aa1-d", 1, hours_ago=30)
    with in_use({"GOCACHE": str(go_caches.build(tmp_path))}):
        bound(tmp_path, 0)
        assert path.exists()
    bound(tmp_path, 0)
    assert not path.exists()


def test_where_nothing_was_compiled_there_is_nothing_to_bound(tmp_path: Path) -> None:
    bound(tmp_path, 0)
    assert list(tmp_path.iterdir()) == []


_FILES = st.lists(st.tuples(st.integers(0, 20), st.integers(0, 10 * _HOUR)), max_size=30)


@given(_FILES, st.integers(0, 200))
def test_no_more_goes_than_has_to_and_nothing_before_what_was_used_earlier(
    numbers: list[tuple[int, int]], most: int
) -> None:
    files = [Compiled(Path(str(number)), size, used) for number, (size, used) in enumerate(numbers)]
    going = surplus(files, most)
    staying = [each for each in files if each not in going]
    assert sum(each.bytes for each in staying) <= most
    if going:
        assert sum(each.bytes for each in [*staying, going[-1]]) > most
    newest = max((each.used // _HOUR for each in going), default=0)
    assert all(each.used // _HOUR >= newest for each in staying)


@pytest.mark.parametrize(
    ("mine", "expected"), [(None, "go/tool-modules"), ("/my/modules", "/my/modules")], ids=["ours", "a person's"]
)
def test_sources_of_tools_lie_apart_unless_a_person_has_chosen_where(
    tmp_path: Path, mine: str | None, expected: str
) -> None:
    environment = {"GOMODCACHE": mine or str(go_caches.api_modules(tmp_path)), "GOFLAGS": "-x"}
    changed = go_caches.for_tools(environment, tmp_path)
    assert changed == {"GOMODCACHE": str(tmp_path / expected), "GOFLAGS": "-x"}
