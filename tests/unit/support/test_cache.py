"""The user's cache: what is in use stays, what nobody asks for any more goes, and half of it is never taken for all."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.cache import (
    UNUSED_SECONDS,
    cache_entry,
    cached_directory,
    delete_leftovers,
    entry_of,
    hold,
    holding,
    is_held,
    take_away,
)
from tests.support import ROOT


def _build(directory: Path) -> None:
    (directory / "file").write_text("content")


def _made(parent: Path, name: str, digest: str, age: float = 0) -> Path:
    """An entry as another process has left it."""
    entry = cache_entry(parent, name, digest * 16)
    entry.mkdir(parents=True)
    _build(entry)
    then = time.time() - age
    os.utime(entry, (then, then))
    return entry


def _python(code: str, *arguments: Path) -> list[str]:
    return [sys.executable, "-c", f"import sys, time\nfrom support.cache import *\n{code}", *map(str, arguments)]


@contextmanager
def _another_process(code: str, *arguments: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process in the middle of `code`, which prints a line when it is there; killed at the end."""
    process = subprocess.Popen(_python(code, *arguments), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


_HOLDS = "from pathlib import Path\nhold(Path(sys.argv[1]))\nprint('holds', flush=True)\ntime.sleep(60)"


@pytest.mark.incident("each change of the stand-in left 1.7 GB in the cache for ever")
def test_a_finished_build_deletes_entries_that_nobody_asked_for_lately(tmp_path: Path) -> None:
    old, recent = (
        _made(tmp_path, "standin", *each) for each in (("a", UNUSED_SECONDS + 60), ("b", UNUSED_SECONDS - 60))
    )
    made = cached_directory(tmp_path, "standin", "c" * 16, _build)
    assert not old.exists()
    assert recent.is_dir()
    assert (made / "file").read_text() == "content"
    assert [path.name for path in tmp_path.glob(".*")] == [".standin.lock"]


def test_asking_for_an_entry_keeps_it(tmp_path: Path) -> None:
    entry = _made(tmp_path, "standin", "a", UNUSED_SECONDS + 60)
    cached_directory(tmp_path, "standin", "a" * 16, _build)
    assert entry.stat().st_mtime > time.time() - 60
    cached_directory(tmp_path, "standin", "b" * 16, _build)
    assert entry.is_dir()


def test_entries_of_a_longer_name_are_somebody_elses(tmp_path: Path) -> None:
    tree = _made(tmp_path, "standin-tree", "a", UNUSED_SECONDS + 60)
    cached_directory(tmp_path, "standin", "b" * 16, _build)
    assert tree.is_dir()


def test_what_a_process_asked_for_is_its_until_it_ends_however_it_does(tmp_path: Path) -> None:
    entry = _made(tmp_path, "standin", "a", UNUSED_SECONDS + 60)
    with _another_process(_HOLDS, entry):
        assert is_held(entry)
        assert not take_away(entry)
        cached_directory(tmp_path, "standin", "b" * 16, _build)
        assert (entry / "file").read_text() == "content"
    # It was killed: nothing is left of its lock.
    assert not is_held(entry)
    assert take_away(entry)
    assert not entry.exists()


def test_what_this_process_asked_for_is_not_taken_away_by_itself(tmp_path: Path) -> None:
    entry = cached_directory(tmp_path, "standin", "a" * 16, _build)
    assert is_held(entry)
    assert not take_away(entry)
    assert (entry / "file").exists()


def test_what_is_held_for_a_while_is_free_again_afterwards(tmp_path: Path) -> None:
    with holding(tmp_path / "go"):
        with holding(tmp_path / "go"):
            pass
        assert not take_away(tmp_path / "go")
    assert take_away(tmp_path / "go")


def test_a_deletion_that_is_cut_short_leaves_no_half_an_entry_and_the_next_run_clears_it_away(tmp_path: Path) -> None:
    entry = _made(tmp_path, "standin", "a")
    killed = "import os, shutil\nfrom pathlib import Path\nshutil.rmtree = lambda *_, **__: os._exit(9)\n"
    assert (
        subprocess.run(_python(f"{killed}take_away(Path(sys.argv[1]))", entry), cwd=ROOT, check=False).returncode == 9
    )
    assert not entry.exists()
    assert len(list(tmp_path.glob(".going-*"))) == 1

    assert (cached_directory(tmp_path, "standin", "a" * 16, _build) / "file").exists()
    delete_leftovers(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".standin.lock", entry.name]


def test_what_is_just_being_built_is_no_leftover(tmp_path: Path) -> None:
    builds = "def build(directory):\n    print('builds', flush=True)\n    time.sleep(60)\n"
    builds += "from pathlib import Path\ncached_directory(Path(sys.argv[1]), 'standin', 'a' * 16, build)"
    with _another_process(builds, tmp_path):
        delete_leftovers(tmp_path)
        assert (tmp_path / ".standin.unfinished").is_dir()
    delete_leftovers(tmp_path)
    assert not (tmp_path / ".standin.unfinished").exists()


def test_who_asks_while_an_entry_goes_has_a_whole_one(tmp_path: Path) -> None:
    takes = "from pathlib import Path\nprint('takes', flush=True)\n"
    takes += "while True:\n    take_away(Path(sys.argv[1]))"
    asks = (
        "from pathlib import Path\ndef build(directory):\n    (directory / 'file').touch()\n"
        "entry = cached_directory(Path(sys.argv[1]), 'standin', 'a' * 16, build)\n"
        "for _ in range(20):\n    assert (entry / 'file').exists()\n"
    )
    with _another_process(takes, cache_entry(tmp_path, "standin", "a" * 16)):
        for _ in range(10):
            subprocess.run(_python(asks, tmp_path), cwd=ROOT, check=True)


def test_an_entry_that_somebody_deleted_by_hand_is_made_anew(tmp_path: Path) -> None:
    entry = cached_directory(tmp_path, "standin", "a" * 16, _build)
    (entry / "file").unlink()
    entry.rmdir()
    assert (cached_directory(tmp_path, "standin", "a" * 16, _build) / "file").exists()
    assert is_held(entry)


def test_what_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert not hold(tmp_path / "none")
    assert not take_away(tmp_path / "none")


def test_the_entry_that_a_path_lies_in_is_found(tmp_path: Path) -> None:
    entry = cache_entry(tmp_path, "standin", "0123456789abcdef" * 2)
    assert entry_of(entry / "root") == entry_of(entry) == entry
    assert entry_of(tmp_path / "root") is None
