from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from support.process import run
from tests.support.errors import raises
from zmanim_ami.pipeline.ami.provenance import commit, describe, tree_digest
from zmanim_ami.pipeline.settings import Settings

TOOLS = {"packer": "1.15.0"}


def git(root: Path, *arguments: str) -> str:
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    who = ["-c", "user.name=Test", "-c", "user.email=test@example.org"]
    return run(["git", *who, "-C", str(root), *arguments], env={**os.environ, **identity}).stdout.strip()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    clone = tmp_path / "clone"
    packer = clone / "infrastructure/packer"
    packer.mkdir(parents=True)
    (packer / "versions.json").write_text("{}")
    (packer / "main.pkr.hcl").write_text("# template\n")
    (clone / ".gitignore").write_text("build/\n")
    (clone / "README.md").write_text("hello\n")
    bundle = clone / "build/bundle"
    bundle.mkdir(parents=True)
    (bundle / "manifest.json").write_text(json.dumps({"sha256": "00", "go": "go1.26.8"}))
    git(clone, "init", "--quiet")
    git(clone, "add", ".")
    git(clone, "commit", "--quiet", "--message", "first")
    return clone


def digest(
    root: Path,
    settings: Settings | None = None,
    tools: dict[str, str] | None = None,
    release_keys: dict[str, str] | None = None,
) -> str:
    return tree_digest(root, root / "build/bundle", settings or Settings(), tools or TOOLS, release_keys or {})


def test_the_commit_is_that_of_the_clone_and_says_when_the_tree_differs(root: Path) -> None:
    head = git(root, "rev-parse", "HEAD")
    assert commit(root) == head
    (root / "README.md").write_text("changed\n")
    assert commit(root) == f"{head}-dirty"


def test_a_new_file_that_is_not_ignored_makes_the_tree_differ_too(root: Path) -> None:
    (root / "build/output").write_text("ignored")
    assert not commit(root).endswith("-dirty")
    (root / "infrastructure/packer/new.sh").write_text("")
    assert commit(root).endswith("-dirty")


def test_what_is_no_clone_is_an_error_and_no_traceback(tmp_path: Path) -> None:
    with raises("not-a-clone"):
        commit(tmp_path)


def test_everything_that_goes_into_the_image_changes_the_digest(root: Path) -> None:
    seen = {digest(root)}

    def differs() -> bool:
        before = len(seen)
        seen.add(digest(root))
        return len(seen) > before

    (root / "infrastructure/packer/main.pkr.hcl").write_text("# another\n")
    assert differs()
    (root / "infrastructure/packer/untracked.sh").write_text("new\n")
    assert differs()
    (root / "infrastructure/packer/untracked.sh").chmod(0o755)
    assert differs()
    (root / "infrastructure/packer/main.pkr.hcl").unlink()
    assert differs()
    (root / "build/bundle/manifest.json").write_text(json.dumps({"sha256": "11"}))
    assert differs()
    seen.add(digest(root, tools={"packer": "1.16.0"}))
    seen.add(digest(root, release_keys={"prod": "a key"}))
    seen.add(digest(root, Settings(source_ami_id="ami-0123456789abcdef0")))
    seen.add(digest(root, Settings(kms_key_id="alias/zmanim")))
    seen.add(digest(root, Settings(root_encrypted=False)))
    seen.add(digest(root, Settings(postgresql_repo="pgdg")))
    other = root / "other.json"
    other.write_text('{"base": {}}')
    seen.add(digest(root, Settings(versions_file=str(other))))
    assert len(seen) == 13


def test_what_does_not_go_into_the_image_leaves_the_digest_alone(root: Path) -> None:
    before = digest(root)
    (root / "README.md").write_text("changed\n")
    (root / "infrastructure/packer/build").mkdir()
    (root / "infrastructure/packer/build/manifest.json").write_text("{}")
    assert digest(root, Settings(boot_timeout=1, instance_type="t4g.medium")) == before


def test_two_clones_with_the_same_files_agree(root: Path, tmp_path: Path) -> None:
    other = tmp_path / "elsewhere"
    run(["cp", "-r", str(root), str(other)])
    assert digest(other) == digest(root)


def test_the_tools_stand_in_one_line_that_fits_a_tag(root: Path) -> None:
    made = describe(root, root / "build/bundle", Settings(), TOOLS)
    assert made.tool_versions == "go 1.26.8, packer 1.15.0"
    assert len(made.tool_versions) <= 256


@pytest.mark.parametrize("content", [None, "{"])
def test_a_versions_file_that_is_missing_or_broken_is_an_error(root: Path, content: str | None) -> None:
    path = root / "mine.json"
    if content:
        path.write_text(content)
    with raises("versions-file-unreadable") as error:
        digest(root, Settings(versions_file=str(path)))
    assert str(path) in error.value.expected
