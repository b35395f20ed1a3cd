"""The tools are built once, whole, and are what was pinned. Go is a stand-in here, which writes what it is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.errors import raises
from tests.support.toolchain.fake_go import FakeGo, fake_go
from zmanim_ami.toolchain.build import packer_on_path, program, tools
from zmanim_ami.toolchain.go import go
from zmanim_ami.toolchain.go_caches import sources_of_tools
from zmanim_ami.toolchain.gobuild import Source, compile_and_link, download, go_failure
from zmanim_ami.toolchain.pins import pin, versions

TOOLS_IN_A_PROCESS = """
import sys
from pathlib import Path
from support.process import interrupt_on_termination
from zmanim_ami.toolchain import tools
interrupt_on_termination()
tools(Path(sys.argv[1]))
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    return fake_go(tmp_path, monkeypatch)


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.02)


def start(site: FakeGo) -> subprocess.Popen[str]:
    """Start `tools` in a process of its own and return when its first build hangs."""
    (site.state / "hang").touch()
    process = subprocess.Popen(
        [sys.executable, "-c", TOOLS_IN_A_PROCESS, str(site.cache)], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    until(lambda: (site.state / "hanging").exists() and (site.state / "hanging").read_text() != "")
    return process


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


def test_the_tools_are_built_once_and_then_found(site: FakeGo) -> None:
    first = tools(site.cache)
    assert site.builds() == ["packer", "packer-plugin-amazon"]
    assert tools(site.cache) == first
    assert len(site.builds()) == 2
    assert first.packer.read_text().startswith("#!/bin/sh")
    assert first.config_directory.is_dir()
    assert list(first.config_directory.iterdir()) == []
    assert list(first.plugin_directory.iterdir()) == []  # Packer's own copy is all that stays, and this one makes none


def test_what_ships_is_built_for_the_image_and_only_when_it_is_asked_for(site: FakeGo) -> None:
    tools(site.cache)
    shipped = program(site.cache, "restic", shipped="aarch64")
    assert site.builds() == ["packer", "packer-plugin-amazon", "restic"]
    assert "GOARCH=arm64" in shipped.read_text()
    assert program(site.cache, "restic", shipped="aarch64") == shipped
    assert len(site.builds()) == 3
    assert "GOARCH=amd64" in program(site.cache, "restic", shipped="x86_64").read_text()
    assert len(site.builds()) == 4


@pytest.mark.incident("the sources of tools, which nobody needed any more, were 3 of the cache's 7 GB")
def test_the_sources_of_tools_go_when_these_are_built(site: FakeGo) -> None:
    tools(site.cache)
    assert set(site.downloads()) == {site.sources() / "packer", site.sources() / "packer-plugin-amazon"}
    assert not site.sources().exists()
    assert not list((site.cache / "go").glob(".going-*"))


def test_what_builds_several_tools_downloads_their_sources_once(site: FakeGo) -> None:
    with sources_of_tools(site.cache):
        tools(site.cache)
        assert site.sources().is_dir()
        program(site.cache, "restic", shipped="aarch64")
        assert {path.name for path in site.sources().iterdir()} == {"packer", "packer-plugin-amazon", "restic"}
    assert not site.sources().exists()


def test_sources_that_a_failed_build_has_downloaded_are_there_for_the_next(site: FakeGo) -> None:
    (site.state / "version-packer").write_text("v0.0.1")
    with raises("tool-is-not-the-one-pinned"):
        tools(site.cache)
    assert (site.sources() / "packer").is_dir()
    (site.state / "version-packer").write_text(f"v{versions()['packer']}")
    tools(site.cache)
    assert not site.sources().exists()


def test_sources_that_another_process_builds_from_stay(site: FakeGo) -> None:
    process = start(site)
    (site.state / "hang").unlink()
    program(site.cache, "restic", shipped="aarch64")
    assert (site.sources() / "packer").is_dir()
    process.kill()
    process.communicate()
    program(site.cache, "act")
    assert not site.sources().exists()


def test_a_person_s_own_caches_stay_as_they_are(site: FakeGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "mine"))
    tools(site.cache)
    assert {path.name for path in (tmp_path / "mine").iterdir()} == {"packer", "packer-plugin-amazon"}


def test_another_go_builds_anew(site: FakeGo) -> None:
    first = tools(site.cache)
    (site.state / "go").write_text("go1.99.1")
    second = tools(site.cache)
    assert len(site.builds()) == 4
    assert {first.packer, first.plugin_directory}.isdisjoint({second.packer, second.plugin_directory})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_is_never_taken_for_a_finished_one(site: FakeGo, number: signal.Signals) -> None:
    process = start(site)
    compiler = int((site.state / "hanging").read_text())
    process.send_signal(number)
    process.communicate(timeout=20)
    until(lambda: gone(compiler))
    assert site.finished() == set()

    (site.state / "hang").unlink()
    assert "half a program" not in tools(site.cache).packer.read_text()
    assert site.builds() == ["packer", "packer", "packer-plugin-amazon"]
    assert list((site.cache / "tools").glob(".*unfinished")) == []


def test_a_tool_of_another_version_is_refused_and_not_kept(site: FakeGo) -> None:
    (site.state / "version-restic").write_text("v0.18.0")
    with raises("tool-is-not-the-one-pinned", match="restic") as caught:
        program(site.cache, "restic", shipped="aarch64")
    assert caught.value.found == "v0.18.0 linux arm64"
    assert site.finished() == set()


def test_a_plugin_that_packer_refuses_is_not_kept(site: FakeGo) -> None:
    (site.state / "refuse").touch()
    with raises("plugin-not-installed"):
        tools(site.cache)
    assert site.finished() == {"packer"}


def test_without_a_network_nothing_is_built_and_go_is_quoted(site: FakeGo) -> None:
    words = 'go: github.com/x/y@v1: Get "https://proxy.example/x": dial tcp: lookup proxy.example: no such host'
    (site.state / "list").write_text(words)
    with raises("modules-unavailable") as caught:
        tools(site.cache)
    assert words in caught.value.found
    assert "network" in caught.value.fix
    assert site.builds() == []


def test_too_little_disk_is_said_before_anything_is_downloaded(site: FakeGo) -> None:
    (site.state / "list").write_text("must not be asked")
    with raises("disk-full") as caught:
        tools(site.cache, needed_bytes=10**18)
    assert re.fullmatch(r"\d+\.\d GB", caught.value.found)
    assert site.builds() == []


def test_a_long_build_says_what_it_is_at(site: FakeGo, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (site.state / "slow").touch()
    made_by, pinned = go(site.cache), pin("restic")
    source = Source("restic", pinned.directory, pinned.package, made_by.program, made_by.environment, 0.05)
    compile_and_link(source, tmp_path / "program", download(source), ())
    output = capfd.readouterr()
    assert "restic: 1 of at most 2 packages, at a/package" in output.err
    assert output.out == ""


def packer(directory: Path, script: str) -> str:
    directory.mkdir()
    program = directory / "packer"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(directory)


def test_a_packer_on_path_of_the_pinned_version_is_used_instead_of_building_one(
    site: FakeGo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = packer(tmp_path / "theirs", f'test "$1" = plugins || echo "Packer v{versions()["packer"]}"')
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    assert tools(site.cache).packer == tmp_path / "theirs" / "packer"
    assert site.builds() == ["packer-plugin-amazon"]


@pytest.mark.parametrize(
    "script",
    [
        "echo Packer v1.15.00",
        "echo Packer v1.15.0-dev",
        "echo v1.15.0",
        "exit 1",
        'read line; echo "$line"',
        "kill -9 $$",
    ],
)
def test_any_other_program_of_that_name_is_not_used(tmp_path: Path, script: str) -> None:
    assert packer_on_path("1.15.0", packer(tmp_path / "theirs", script)) is None


def test_in_ci_a_packer_on_path_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known by its version only, it would hold the keys of a release."""
    directory = packer(tmp_path / "theirs", "echo Packer v1.15.0")
    monkeypatch.setenv("PATH", f"{directory}:{os.environ['PATH']}")
    monkeypatch.delenv("CI", raising=False)
    assert packer_on_path("1.15.0") == tmp_path / "theirs" / "packer"
    monkeypatch.setenv("CI", "true")
    assert packer_on_path("1.15.0") is None


def test_a_packer_that_also_tells_of_a_newer_one_is_used(tmp_path: Path) -> None:
    directory = packer(tmp_path / "theirs", "echo Packer v1.15.0; echo; echo Your version of Packer is out of date")
    assert packer_on_path("1.15.0", directory) == tmp_path / "theirs" / "packer"


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("x.go:1: write /c/x: no space left on device", "disk-full"),
        ("write /c/x: disk quota exceeded", "disk-full"),
        (
            "verifying x@v1: checksum mismatch\n downloaded: h1:a\n go.sum: h1:b\nSECURITY ERROR",
            "module-checksum-wrong",
        ),
        ("x@v1: reading https://proxy.example/x: 403 Forbidden", "modules-unavailable"),
        ('x@v1: Get "https://proxy.example": dial tcp 10.0.0.1:443: i/o timeout', "modules-unavailable"),
        (
            "x@v1: tls: failed to verify certificate: x509: certificate signed by unknown authority",
            "modules-unavailable",
        ),
        ("go: go.mod requires go >= 1.30 (running go 1.26.8; GOTOOLCHAIN=local)", "go-build-failed"),
        ("./main.go:3:1: undefined: x", "go-build-failed"),
    ],
)
def test_each_way_that_go_fails_is_an_error_of_its_own_in_go_s_words(output: str, code: str) -> None:
    error = go_failure("restic", f"a/package/name\n{output}")
    assert error.code == code
    assert output.splitlines()[-1] in error.found
    assert "a/package/name" not in error.found
    assert "restic" in error.summary
    assert error.fix
