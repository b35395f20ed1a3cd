"""What may become a release, by the tag that it was started for or by hand."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.errors import raises
from zmanim_ami.pipeline.ami import tag
from zmanim_ami.pipeline.version import parse

VERSION = parse("v1.2.3")
TAG = "refs/tags/v1.2.3-ami"


@dataclass
class Clone:
    """A clone as a runner has it: some branch's or tag's commit, detached, with the branches of its origin."""

    root: Path

    def git(self, *arguments: str) -> str:
        command = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *arguments]
        return subprocess.run(command, cwd=self.root, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self, name: str) -> str:
        self.git("commit", "--quiet", "--allow-empty", "-m", name)
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    made = Clone(tmp_path)
    made.git("init", "--quiet", "--initial-branch=main")
    made.commit("released")
    made.git("tag", "--annotate", "-m", "x", "v1.2.3-ami")
    made.git("update-ref", "refs/remotes/origin/main", "HEAD")
    return made


@pytest.mark.parametrize("ref", [TAG, "refs/heads/main"])
def test_a_commit_of_main_is_checked_by_its_tag_or_by_hand(clone: Clone, ref: str) -> None:
    assert tag.check(clone.root, ref, VERSION) == tag.Checked("v1.2.3", clone.git("rev-parse", "HEAD"))


@pytest.mark.incident("a version was started by hand on main, which had gone on since it was tagged")
def test_by_hand_a_version_that_has_a_tag_is_built_of_the_tagged_commit_only(clone: Clone) -> None:
    tagged = clone.git("rev-parse", "HEAD")
    clone.git("update-ref", "refs/remotes/origin/main", clone.commit("since"))
    with raises("tag-wrong") as error:
        tag.check(clone.root, "refs/heads/main", VERSION)
    assert tagged in error.value.expected
    assert "--ref v1.2.3-ami" in error.value.fix
    assert tag.check(clone.root, "refs/heads/main", parse("v1.2.4")).version == "v1.2.4"


def test_a_tag_that_was_moved_since_it_was_checked_out_is_refused(clone: Clone) -> None:
    clone.git("update-ref", "refs/remotes/origin/main", clone.commit("since"))
    with raises("tag-wrong", match="is not what v1.2.3-ami names"):
        tag.check(clone.root, TAG, VERSION)


def test_a_tag_of_another_version_is_refused(clone: Clone) -> None:
    with raises("tag-wrong"):
        tag.check(clone.root, TAG, parse("v1.2.4"))


def test_what_is_not_on_main_is_refused_and_a_clone_without_main_says_so(clone: Clone) -> None:
    clone.commit("not merged")
    clone.git("tag", "--force", "v1.2.3-ami")
    with raises("not-on-main"):
        tag.check(clone.root, TAG, VERSION)
    clone.git("update-ref", "-d", "refs/remotes/origin/main")
    with raises("not-on-main") as error:
        tag.check(clone.root, TAG, VERSION)
    assert "whole history" in error.value.fix


def test_a_changed_tree_and_a_test_image_are_no_release(clone: Clone) -> None:
    with raises("tag-wrong"):
        tag.check(clone.root, "refs/heads/main", parse("test-x"))
    (clone.root / "file").touch()
    clone.git("add", "file")
    with raises("tag-wrong"):
        tag.check(clone.root, TAG, VERSION)
