from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from support.errors import Error
from support.process import Completed
from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.pipeline.pins import bump
from zmanim_ami.pipeline.pins.bump import Bump, LookUps
from zmanim_ami.pipeline.pins.lookups import parse_tags
from zmanim_ami.pipeline.pins.proposal import propose

COMMIT = "ab" * 20
SHA = "cd" * 32


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    for name in (bump.VERSIONS, bump.WORKFLOWS, *(bump.TOOLS / tool / "go.mod" for tool in bump._MODULES)):
        target = tmp_path / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (ROOT / name).is_dir() else shutil.copy)(ROOT / name, target)
    return tmp_path


def pins(clone: Path) -> Any:
    return json.loads((clone / bump.VERSIONS).read_text())


def same(clone: Path) -> LookUps:
    """Look-ups that know nothing newer."""
    here = pins(clone)
    tags = {
        repository: {f"{'v' if name != 'redis' else ''}{here['artifacts'][name]['version']}": COMMIT}
        for name, (repository, _) in bump._LINES.items()
    }
    base = here["base"]

    def modules(module: str) -> list[str]:
        tool = next(tool for tool, (path, _) in bump._MODULES.items() if path == module)
        text = (clone / bump.TOOLS / tool / "go.mod").read_text()
        return [line.split()[1] for line in text.splitlines() if line.startswith(f"\t{module} v")]

    def forbidden(*_: object) -> Any:
        raise AssertionError("nothing is newer")

    return LookUps(
        tags=lambda repository: tags.get(repository, {"v0.0.1": COMMIT}),
        modules=modules,
        images=lambda: [f"al2023-ami-{base['release']}.0-kernel-{base['kernel']}-arm64"],
        sha256=forbidden,
        get=forbidden,
    )


def digests(clone: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(clone.rglob("*")) if path.is_file()}


def test_where_nothing_is_newer_nothing_changes(clone: Path) -> None:
    before = digests(clone)
    assert bump.bump(clone, same(clone)) == []
    assert digests(clone) == before


def test_a_newer_source_brings_its_address_and_its_checksum(clone: Path) -> None:
    old = pins(clone)["artifacts"]["restic"]
    look = replace(same(clone), tags=_tags(clone, "restic", "v0.19.2"), sha256=lambda url: SHA)
    found = bump.bump(clone, look)
    assert found == [Bump("restic", old["version"], "0.19.2", str(bump.VERSIONS))]
    new = pins(clone)["artifacts"]["restic"]
    assert new["url"] == old["url"].replace(old["version"], "0.19.2")
    assert new == {**old, "version": "0.19.2", "url": new["url"], "sha256": SHA}


@pytest.mark.parametrize("tag", ["7.4.1", "8.0.0", "7.2.99-rc1", "v7.2.99"])
def test_a_pin_stays_on_its_line(clone: Path, tag: str) -> None:
    assert bump.bump(clone, replace(same(clone), tags=_tags(clone, "redis", tag))) == []


def test_versions_are_compared_as_numbers(clone: Path) -> None:
    look = replace(same(clone), tags=_tags(clone, "redis", "7.2.9"))
    assert bump.bump(clone, look) == []


def test_the_base_moves_with_its_kernel_only(clone: Path) -> None:
    base = pins(clone)["base"]
    names = [
        "al2023-ami-2023.99.20270101.0-kernel-9.9-arm64",
        "al2023-ami-minimal-2023.99.20270101.0-kernel-6.12-arm64",
    ]
    here = same(clone).images()
    assert bump.bump(clone, replace(same(clone), images=lambda: [*here, *names])) == []
    newer = f"al2023-ami-2023.13.20261101.1-kernel-{base['kernel']}-arm64"
    (found,) = bump.bump(clone, replace(same(clone), images=lambda: [*here, newer]))
    assert found.new == "2023.13.20261101"
    assert pins(clone)["base"] == {**base, "release": "2023.13.20261101"}


def test_an_action_gets_its_commit_and_its_version(clone: Path) -> None:
    known = same(clone).tags

    def tags(repository: str) -> Mapping[str, str]:
        newer = {"v99.1.0": COMMIT, "v99": "0" * 40}
        return newer if repository.endswith("/actions/checkout") else known(repository)

    found = bump.bump(clone, replace(same(clone), tags=tags))
    assert {each.what for each in found} == {"actions/checkout"}
    for path in (clone / bump.WORKFLOWS).glob("*.yml"):
        text = path.read_text()
        assert text.count("actions/checkout@") == text.count(f"actions/checkout@{COMMIT}  # v99.1.0")


def test_a_tools_module_is_asked_for_the_newer_version(clone: Path) -> None:
    asked: list[tuple[Path, str, str]] = []
    known = same(clone).modules

    def modules(module: str) -> Sequence[str]:
        return (
            [*known(module), "v1.99.0", "v1.100.0-beta1"] if module == "github.com/hashicorp/packer" else known(module)
        )

    look = replace(same(clone), modules=modules, get=lambda *given: asked.append(given))
    (found,) = bump.bump(clone, look)
    assert (found.what, found.new) == ("packer", "1.99.0")
    assert asked == [(clone / "tools/packer", "github.com/hashicorp/packer", "v1.99.0")]


def test_dry_changes_nothing(clone: Path) -> None:
    before = digests(clone)
    look = replace(same(clone), tags=_tags(clone, "restic", "v0.19.2"), sha256=lambda url: SHA)
    assert len(bump.bump(clone, look, dry=True)) == 1
    assert digests(clone) == before


def test_when_one_look_up_fails_nothing_is_written(clone: Path) -> None:
    before = digests(clone)

    def modules(module: str) -> Sequence[str]:
        raise Error("no proxy", code="look-up-failed", expected="an answer", found="none")

    look = replace(same(clone), tags=_tags(clone, "restic", "v0.19.2"), sha256=lambda url: SHA, modules=modules)
    with raises("look-up-failed"):
        bump.bump(clone, look)
    with raises("look-up-failed"):
        bump.bump(clone, replace(same(clone), images=list))
    assert digests(clone) == before


def test_an_annotated_tag_stands_for_its_commit() -> None:
    listed = f"{'1' * 40}\trefs/tags/v1.0.0\n{'2' * 40}\trefs/tags/v1.0.0^{{}}\n{'3' * 40}\trefs/tags/v1.1.0\n"
    assert parse_tags(listed) == {"v1.0.0": "2" * 40, "v1.1.0": "3" * 40}


@pytest.mark.parametrize(("state", "verb"), [("OPEN\n", "edit"), ("MERGED\n", "create"), ("", "create")])
def test_there_is_never_a_second_pull_request(tmp_path: Path, state: str, verb: str) -> None:
    ran: list[list[str]] = []

    def run(command: Sequence[str], *, cwd: Path, check: bool = True, input: str | None = None) -> Completed:
        ran.append(list(command))
        return Completed(0 if state else 1, state, "")

    propose(tmp_path, "bump", "Take newer pins", "words", run)
    assert [command[:3] for command in ran if command[0] == "gh"] == [["gh", "pr", "view"], ["gh", "pr", verb]]
    assert any(command[-4:] == ["push", "--force", "origin", "bump"] for command in ran)


def _tags(clone: Path, artifact: str, tag: str) -> Any:
    known, repository = same(clone).tags, bump._LINES[artifact][0]
    return lambda asked: {**known(asked), tag: COMMIT} if asked == repository else known(asked)
