"""Paths of a tree that somebody else made lead where its guest's would, and never out of it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.machine import tree

PARTS = st.sampled_from(["a", "b", "c", "..", ".", "/"])
PATHS = st.lists(PARTS, min_size=1, max_size=6).map("/".join)


@pytest.mark.parametrize(
    ("target", "leads_to"),
    [
        ("/usr/etc", "usr/etc/hosts"),
        ("//usr/etc", "usr/etc/hosts"),
        ("usr/etc", "usr/etc/hosts"),
        ("../../../../usr/etc", "usr/etc/hosts"),
        ("/", "hosts"),
        ("/nowhere/yet", "nowhere/yet/hosts"),
    ],
)
def test_links_begin_at_the_tree_however_far_up_they_go(tmp_path: Path, target: str, leads_to: str) -> None:
    (tmp_path / "etc").symlink_to(target)
    assert tree.inside(tmp_path, "etc/hosts") == tmp_path / leads_to


@given(links=st.lists(st.tuples(PATHS, PATHS), max_size=5), path=PATHS)
def test_no_path_leaves_the_tree_and_none_ends_in_a_link(links: list[tuple[str, str]], path: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        _stays_inside(Path(directory).resolve(), links, path)


def _stays_inside(root: Path, links: list[tuple[str, str]], path: str) -> None:
    for name, target in links:
        try:
            place = tree.inside(root, name)
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(target)
        except OSError:
            continue  # it is there already, or goes round
    try:
        found = tree.inside(root, path)
    except OSError:
        return  # its links go round
    assert found == root or root in found.parents
    assert not found.is_symlink()
    assert ".." not in found.parts
    # The kernel agrees, where it is asked to begin at the tree.
    assert Path(os.path.realpath(found)) == found


def test_only_regular_files_are_read_and_anything_else_makes_room_for_what_is_written(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert tree.read(tmp_path, "pipe") is None
    assert tree.read(tmp_path, "nothing") is None
    tree.write(tmp_path, "pipe", b"x")
    assert tree.read(tmp_path, "pipe") == b"x"
    tree.write(tmp_path, "new/directory/file", b"y")
    assert (tmp_path / "new/directory/file").read_bytes() == b"y"


def test_a_file_that_has_a_name_in_another_tree_is_written_in_this_one_alone(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    for root in (one, other):
        root.mkdir()
    (one / "file").write_text("before")
    (one / "file").chmod(0o600)
    os.link(one / "file", other / "file")
    tree.write(other, "file", b"after")
    assert ((one / "file").read_text(), (other / "file").read_text()) == ("before", "after")
    assert (other / "file").stat().st_mode & 0o777 == 0o600
