"""The user's cache: what is in use stays, what nobody asks for any more goes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from support.cache import UNUSED_SECONDS, cache_entry, cached_directory


def _build(directory: Path) -> None:
    (directory / "file").write_text("content")


def _age(entry: Path, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(entry, (then, then))


def _made(parent: Path, name: str, digest: str, age: float = 0) -> Path:
    entry = cached_directory(parent, name, digest * 16, _build)
    _age(entry, age)
    return entry


@pytest.mark.incident("each change of the stand-in left 1.7 GB in the cache for ever")
def test_a_finished_build_deletes_entries_that_nobody_asked_for_lately(tmp_path: Path) -> None:
    old, recent = _made(tmp_path, "standin", "a"), _made(tmp_path, "standin", "b")
    _age(old, UNUSED_SECONDS + 60)
    _age(recent, UNUSED_SECONDS - 60)
    made = _made(tmp_path, "standin", "c")
    assert not old.exists()
    assert recent.is_dir()
    assert (made / "file").read_text() == "content"
    assert list(tmp_path.glob(".*.unfinished")) == []


def test_asking_for_an_entry_keeps_it(tmp_path: Path) -> None:
    entry = _made(tmp_path, "standin", "a", UNUSED_SECONDS + 60)
    cached_directory(tmp_path, "standin", "a" * 16, _build)
    _made(tmp_path, "standin", "b")
    assert entry.is_dir()


def test_entries_of_a_longer_name_are_somebody_elses(tmp_path: Path) -> None:
    tree = cache_entry(tmp_path, "standin-tree", "a" * 16)
    tree.mkdir()
    _age(tree, UNUSED_SECONDS + 60)
    _made(tmp_path, "standin", "b")
    assert tree.is_dir()
