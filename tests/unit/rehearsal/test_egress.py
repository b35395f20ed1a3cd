"""A rehearsal with a way out takes everything as production pins it, and tells what it fetched."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from localcloud.net.egress import LOG, Passage
from localcloud.settings import Cloud, CloudSettings
from tests.support.errors import raises
from zmanim_ami import toolchain
from zmanim_ami.pipeline.ami import provenance
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import host, marks, report, standin
from zmanim_ami.rehearsal import run as rehearsing
from zmanim_ami.rehearsal.base import Base, check_repositories
from zmanim_ami.rehearsal.fetched import Fetched, by_name
from zmanim_ami.rehearsal.report import Result
from zmanim_ami.rehearsal.run import Options

PRODUCTION = {
    "base": {"release": "2023.12.20260930", "kernel": "6.12"},
    "artifacts": {"redis": {"version": "7.2.16", "url": "https://download.redis.io/r.tar.gz", "sha256": "a" * 64}},
}
CONTAINERS = """
[amazonlinux]
name=Amazon Linux 2023 repository
mirrorlist=https://cdn.amazonlinux.com/al2023/core/mirrors/$releasever/$basearch/mirror.list
enabled=1
[amazonlinux-source]
mirrorlist=https://cdn.amazonlinux.com/al2023/core/mirrors/$releasever/SRPMS/mirror.list
enabled=0
"""


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with a versions file, and a base that is unpacked already."""
    root = tmp_path / "clone"
    (root / "infrastructure/packer").mkdir(parents=True)
    (root / "infrastructure/packer/versions.json").write_text(json.dumps(PRODUCTION))
    tree = tmp_path / "tree"
    (tree / "etc/yum.repos.d").mkdir(parents=True)
    (tree / "etc/yum.repos.d/amazonlinux.repo").write_text(CONTAINERS)
    monkeypatch.setattr(clouds, "unpack", lambda file, cache, certificate: Base(tree, file, "s" * 64))
    monkeypatch.setattr(toolchain, "tools", lambda cache: "tools")
    monkeypatch.setattr(standin, "build_tree", lambda cache: pytest.fail("nothing of the stand-in is needed"))
    monkeypatch.setattr(standin, "build", lambda *_: pytest.fail("nothing of the stand-in is needed"))
    return root


def test_everything_is_as_production_pins_it_and_nothing_of_the_stand_in_is_built(clone: Path, tmp_path: Path) -> None:
    prepared = clouds.prepare(clone, tmp_path / "cache", Path("root.tar"), egress=True)
    assert json.loads(prepared.versions_file.read_text()) == PRODUCTION
    assert prepared.differences == ()
    assert prepared.mirror is None
    assert prepared.root == tmp_path / "tree"
    settings = clouds._settings("one", prepared, tmp_path)
    assert settings.egress
    assert settings.egress_hosts is None  # that is for tests of the local cloud alone
    assert not clouds._settings("one", replace(prepared, mirror=tmp_path), tmp_path).egress


def test_the_stand_in_gets_no_way_out(clone: Path, tmp_path: Path) -> None:
    with raises("egress-without-base", match="--base FILE"):
        clouds.prepare(clone, tmp_path / "cache", egress=True)
    options = Options(
        "v1.0.0", clone, tmp_path, tmp_path, keep=False, install=False, confirm=False, egress=True
    )  # fmt: skip
    with raises("egress-without-base"):
        rehearsing.rehearse(options)
    assert not (clone / "build").exists()  # before anything is done


def test_a_base_with_repositories_outside_is_refused_without_a_way_out(clone: Path, tmp_path: Path) -> None:
    with raises("repositories-outside") as caught:
        clouds.prepare(clone, tmp_path / "cache", Path("root.tar"))
    assert "amazonlinux (https://cdn.amazonlinux.com/" in caught.value.found
    assert "amazonlinux-source" not in caught.value.found  # it is not enabled
    assert "--egress" in caught.value.fix


@pytest.mark.parametrize(
    ("text", "outside"),
    [
        ("[a]\nbaseurl=file:///usr/share/a\n", False),
        ("[a]\nbaseurl=https://a.test/x\n", True),
        ("[a]\nenabled = 1\nmetalink = http://a.test/x\n", True),
        ("[a]\nenabled=0\nbaseurl=https://a.test/x\n", False),
        ("[a]\nbaseurl=file:///x\n  https://a.test/x\n", True),
        ("[a]\nname=100% https://a.test\nbaseurl=file:///x\n", False),
        ("no section\n", False),
        ("", False),
    ],
)
def test_only_enabled_repositories_on_the_network_count(tmp_path: Path, text: str, outside: bool) -> None:
    folder = tmp_path / "etc/yum.repos.d"
    folder.mkdir(parents=True)
    (folder / "a.repo").write_text(text)
    (folder / "link.repo").symlink_to("/nowhere")
    base = Base(tmp_path, Path("root.tar"), "")
    if outside:
        with raises("repositories-outside"):
            check_repositories(base)
    else:
        check_repositories(base)


def test_what_was_fetched_is_told_by_name_with_what_went_wrong() -> None:
    passages = [
        Passage("10.213.0.10", 443, "cdn.test", 100, 2_000_000, 1.0, "closed"),
        Passage("10.213.0.10", 443, "CDN.test.", 100, 500_000, 1.0, "failed: [Errno 104]"),
        Passage("10.213.0.11", 80, "10.0.0.1", 0, 0, 0.0, "refused: no name of the internet"),
        Passage("10.213.0.11", 80, "10.0.0.1", 0, 0, 0.0, "refused: no name of the internet"),
        Passage("10.213.0.11", 80, "", 0, 0, 0.0, "refused: no HTTP/1 request"),
    ]
    found = by_name(passages)
    assert found == (
        Fetched("", 1, 0, ("refused: no HTTP/1 request",)),
        Fetched("10.0.0.1", 2, 0, ("refused: no name of the internet",)),
        Fetched("cdn.test", 2, 2_500_000, ("failed: [Errno 104]",)),
    )
    out = StringIO()
    report.show(Result("v1.0.0", fetched=found), Console(file=out, width=200))
    (line,) = [line for line in out.getvalue().splitlines() if "cdn.test" in line]
    assert "2.5" in line
    assert "failed: [Errno 104]" in line  # and not taken for markup
    report.show(Result("v1.0.0"), Console(file=(quiet := StringIO()), width=200))
    assert "outside" not in quiet.getvalue()


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_fetched_is_written_down_before_the_cloud_goes_even_when_the_build_fails(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: bool
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / LOG).write_text(json.dumps({"source": "10.213.0.10", "port": 443, "name": "a.test"}) + "\n")
    started: list[CloudSettings] = []

    def start(name: str, prepared: Any, state: Path, policies: Path) -> Cloud:
        started.append(clouds._settings(name, prepared, state))
        return Cloud(name, "eu-west-1", directory, 0)

    def release(*_: Any) -> None:
        if fails:
            raise rehearsing.StepFailed("build-ami", 1, "")

    monkeypatch.setenv(marks.VARIABLE, "")  # the rehearsal sets it
    monkeypatch.setattr(host, "require", lambda *_, **__: None)
    monkeypatch.setattr(provenance, "sources", lambda root: "digest")
    monkeypatch.setattr(clouds, "start", start)
    monkeypatch.setattr(clouds, "stop", lambda name, state: (directory / LOG).unlink())
    monkeypatch.setattr(rehearsing, "_release", release)
    options = Options(
        "v1.0.0", clone, tmp_path / "cache", tmp_path, keep=False, install=False, confirm=False,
        base=Path("root.tar"), egress=True,
    )  # fmt: skip
    if fails:
        with pytest.raises(rehearsing.StepFailed):
            rehearsing.rehearse(options)
    else:
        rehearsing.rehearse(options)
    written = json.loads((clone / "build/rehearsal/result.json").read_text())
    assert [each["name"] for each in written["fetched"]] == ["a.test"]
    assert [settings.egress for settings in started] == [True]
