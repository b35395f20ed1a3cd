from __future__ import annotations

from pathlib import Path

import pytest

from support.git import git, own_files
from support.process import CommandFailed


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    git(tmp_path, "init", "--quiet")
    (tmp_path / ".gitignore").write_text("build/\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "made").write_text("")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "schön.txt").write_text("")
    (tmp_path / "gone.txt").write_text("")
    git(tmp_path, "add", "gone.txt")
    (tmp_path / "gone.txt").unlink()
    return tmp_path


def test_a_clones_own_files_are_what_is_there_and_not_ignored(clone: Path) -> None:
    assert own_files(clone) == [clone / ".gitignore", clone / "sub" / "schön.txt"]
    assert own_files(clone, "sub") == [clone / "sub" / "schön.txt"]


def test_gits_own_words_come_with_its_refusal(clone: Path) -> None:
    with pytest.raises(CommandFailed) as failed:
        git(clone, "rev-parse", "--verify", "HEAD")
    assert "fatal" in failed.value.found
    assert git(clone, "rev-parse", "--verify", "--quiet", "HEAD", check=False) == ""
