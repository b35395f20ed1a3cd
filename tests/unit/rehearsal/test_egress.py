"""A rehearsal with egress takes everything as production pins it, and tells what it fetched."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from localcloud.net.egress import LOG, Connection
from localcloud.settings import Cloud
from support.errors import Error
from tests.support.base_archive import archive
from tests.support.errors import raises
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal import report
from zmanim_ami.rehearsal import run as rehearsing
from zmanim_ami.rehearsal.base import Base, check_repositories
from zmanim_ami.rehearsal.cloud import Prepared
from zmanim_ami.rehearsal.report import Fetched, Result, by_name
from zmanim_ami.rehearsal.run import Options, Rehearsal
from zmanim_ami.toolchain import Tools

PRODUCTION = {
    "base": {"release": "2023.12.20260930", "kernel": "6.12"},
    "programs": {"architecture": "aarch64"},
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


TOOLS = Tools(Path("packer"), Path("plugin"), Path("config"))


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A clone with a versions file."""
    root = tmp_path / "clone"
    (root / "infrastructure/packer").mkdir(parents=True)
    (root / "infrastructure/packer/versions.json").write_text(json.dumps(PRODUCTION))
    return root


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A base with the repositories of Amazon's container image."""
    return archive(tmp_path / "root.tar", last="etc/yum.repos.d/amazonlinux.repo", text=CONTAINERS)


def _no_tools(_cache: Path) -> Tools:
    pytest.fail("nothing needs to be built for a refusal")


def _options(clone: Path, base: Path | None = None) -> Options:
    return Options(
        "v1.0.0", clone, clone / "cache", clone.parent, keep=False, install=False, confirm=False, base=base, egress=True
    )


def test_everything_is_as_production_pins_it_and_nothing_of_the_stand_in_is_built(
    clone: Path, base: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    prepared = clouds.prepare(clone, cache, base, egress=True, build_tools=lambda _cache: TOOLS)
    assert json.loads(prepared.versions_file.read_text()) == PRODUCTION
    assert prepared.differences == ()
    assert prepared.mirror is None
    assert (prepared.root / "etc/yum.repos.d/amazonlinux.repo").read_text() == CONTAINERS
    assert [path.name for path in cache.iterdir() if "standin" in path.name] == []
    settings = clouds.settings("one", prepared, tmp_path)
    assert settings.egress
    assert settings.egress_hosts is None  # that is for tests of the local cloud alone
    assert not clouds.settings("one", replace(prepared, mirror=tmp_path), tmp_path).egress


def test_the_stand_in_gets_no_way_out(clone: Path, tmp_path: Path) -> None:
    with raises("egress-without-base", match="--base FILE"):
        clouds.prepare(clone, tmp_path / "cache", egress=True, build_tools=_no_tools)
    with raises("egress-without-base"):
        rehearsing.rehearse(_options(clone))
    assert not (clone / "build").exists()  # before anything is done


def test_a_base_with_repositories_outside_is_refused_without_a_way_out(clone: Path, base: Path, tmp_path: Path) -> None:
    with raises("repositories-outside") as caught:
        clouds.prepare(clone, tmp_path / "cache", base, build_tools=_no_tools)
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
    connections = [
        Connection("10.213.0.10", 443, "cdn.test", 100, 2_000_000, 1.0, "closed"),
        Connection("10.213.0.10", 443, "CDN.test.", 100, 500_000, 1.0, "failed: [Errno 104]"),
        Connection("10.213.0.11", 80, "10.0.0.1", 0, 0, 0.0, "refused: no name of the internet"),
        Connection("10.213.0.11", 80, "10.0.0.1", 0, 0, 0.0, "refused: no name of the internet"),
        Connection("10.213.0.11", 80, "", 0, 0, 0.0, "refused: no HTTP/1 request"),
    ]
    fetched = by_name(connections)
    assert fetched == (
        Fetched("", 1, 0, ("refused: no HTTP/1 request",)),
        Fetched("10.0.0.1", 2, 0, ("refused: no name of the internet",)),
        Fetched("cdn.test", 2, 2_500_000, ("failed: [Errno 104]",)),
    )
    out = StringIO()
    report.show(Result("v1.0.0", fetched=fetched), Console(file=out, width=200))
    (line,) = [line for line in out.getvalue().splitlines() if "cdn.test" in line]
    assert "2.5" in line
    assert "failed: [Errno 104]" in line  # and not taken for markup
    report.show(Result("v1.0.0"), Console(file=(quiet := StringIO()), width=200))
    assert "outside" not in quiet.getvalue()


@pytest.mark.parametrize("fails", [False, True])
def test_what_was_fetched_is_written_down_before_the_cloud_goes_even_when_the_build_fails(
    clone: Path, base: Path, tmp_path: Path, fails: bool
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    (directory / LOG).write_text(json.dumps({"source": "10.213.0.10", "port": 443, "name": "a.test"}) + "\n")

    def start(name: str, prepared: Prepared, state: Path, policies: Path, _day: object) -> Cloud:
        assert clouds.settings(name, prepared, state).egress
        return Cloud(name, "eu-west-1", directory, 0)

    options = _options(clone, base)
    prepared = clouds.prepare(clone, options.cache, base, egress=True, build_tools=lambda _cache: TOOLS)
    with (
        raises("step-failed") if fails else nullcontext(),
        rehearsing.started_cloud(
            Rehearsal(options), options, prepared, start=start, stop=lambda name, state: (directory / LOG).unlink()
        ),
    ):
        if fails:
            raise Error("the rehearsal stopped at build-ami", code="step-failed")
    assert not (directory / LOG).exists()
    written = json.loads((clone / "build/rehearsal/result.json").read_text())
    assert [each["name"] for each in written["fetched"]] == ["a.test"]
    assert [step["name"] for step in written["steps"]] == ["cloud.up", "cloud.down"]
