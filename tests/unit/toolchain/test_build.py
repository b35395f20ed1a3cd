"""The tools are built once, whole, and are what was pinned. Go is a stand-in here, which writes what it is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.toolchain.build import packer_on_path, program, tools
from zmanim_ami.toolchain.go import go
from zmanim_ami.toolchain.gobuild import Source, compile_and_link, download, go_failure
from zmanim_ami.toolchain.pins import pin, versions

# Answers what toolchain asks of Go. Each file in its directory of state tells it something: `go` its own version,
# `version-TOOL` which version it builds, `slow` that a build takes a while, `hang` that it never ends (its process id
# is then in `hanging`), `list` what `go list` fails with. It writes a line to `log` for each build. What it builds is a
# script that can stand in for Packer: it refuses when there is a file `refuse`.
FAKE_GO = """#!{python}
import os, sys, time
from pathlib import Path

state, arguments, tool = Path({state!r}), sys.argv[1:], os.path.basename(os.getcwd())
match arguments:
    case ["env", "GOVERSION"]:
        print((state / "go").read_text())
    case ["env", "-json", *_]:
        print("{{}}")
    case ["list", *_]:
        if (state / "list").exists():
            sys.exit((state / "list").read_text())
        print("fmt", "os", sep="\\n")
    case ["build", *_]:
        with (state / "log").open("a") as log:
            print(tool, file=log)
        print("a/package", file=sys.stderr, flush=True)
        output = Path(arguments[arguments.index("-o") + 1])
        output.write_text("half a program")
        if (state / "slow").exists():
            time.sleep(0.3)
        if (state / "hang").exists():
            (state / "hanging").write_text(str(os.getpid()))
            time.sleep(60)
        target = "\\n".join(f"\\tbuild\\t{{name}}={{os.environ[name]}}" for name in ("GOOS", "GOARCH"))
        version = (state / f"version-{{tool}}").read_text()
        script = "#!/bin/sh\\ntest ! -e {state}/refuse\\nexit\\n"
        output.write_text(f"{{script}}\\tmod\\tmodule\\t{{version}}\\n{{target}}\\n")
        output.chmod(0o755)
    case ["version", "-m", program]:
        print(f"{{program}}: go1.99.0", Path(program).read_text(), sep="\\n")
    case _:
        sys.exit(f"unexpected: {{arguments}}")
"""

TOOLS_IN_A_PROCESS = """
import sys
from pathlib import Path
from support.process import interrupt_on_termination
from zmanim_ami.toolchain import tools
interrupt_on_termination()
tools(Path(sys.argv[1]))
"""


@dataclass(frozen=True)
class Site:
    """A cache, and a Go that is told what to do by files in `state`."""

    cache: Path
    state: Path

    def builds(self) -> list[str]:
        log = self.state / "log"
        return log.read_text().split() if log.exists() else []

    def finished(self) -> set[str]:
        return {path.name.rpartition("-")[0] for path in (self.cache / "tools").glob("[!.]*")}

    def start(self) -> subprocess.Popen[str]:
        """Start `tools` in a process of its own and return when its first build hangs."""
        (self.state / "hang").touch()
        process = subprocess.Popen(
            [sys.executable, "-c", TOOLS_IN_A_PROCESS, str(self.cache)], cwd=ROOT, stderr=subprocess.PIPE, text=True
        )
        until(lambda: (self.state / "hanging").exists() and (self.state / "hanging").read_text() != "")
        return process


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not come to this"
        time.sleep(0.02)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return "\nState:\tZ" in Path(f"/proc/{pid}/status").read_text()


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    state = tmp_path / "state"
    program = tmp_path / "bin" / "go"
    for directory in (state, program.parent):
        directory.mkdir()
    program.write_text(FAKE_GO.format(python=sys.executable, state=str(state)))
    program.chmod(0o755)
    (state / "go").write_text("go1.99.0")
    for name, version in versions().items():
        (state / f"version-{name}").write_text(f"v{version}")
    monkeypatch.delenv("CI", raising=False)  # in which this Go would not be looked at
    # No packer of the host, but a shell and setpriv.
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return Site(tmp_path / "cache", state)


def test_the_tools_are_built_once_and_then_found(site: Site) -> None:
    first = tools(site.cache)
    assert site.builds() == ["packer", "packer-plugin-amazon"]
    assert tools(site.cache) == first
    assert len(site.builds()) == 2
    assert first.packer.read_text().startswith("#!/bin/sh")
    assert first.config_directory.is_dir()
    assert list(first.config_directory.iterdir()) == []
    assert list(first.plugin_directory.iterdir()) == []  # Packer's own copy is all that stays, and this one makes none


def test_what_ships_is_built_for_the_image_and_only_when_it_is_asked_for(site: Site) -> None:
    tools(site.cache)
    shipped = program(site.cache, "restic", shipped="aarch64")
    assert site.builds() == ["packer", "packer-plugin-amazon", "restic"]
    assert "GOARCH=arm64" in shipped.read_text()
    assert program(site.cache, "restic", shipped="aarch64") == shipped
    assert len(site.builds()) == 3
    assert "GOARCH=amd64" in program(site.cache, "restic", shipped="x86_64").read_text()
    assert len(site.builds()) == 4


def test_another_go_builds_anew(site: Site) -> None:
    first = tools(site.cache)
    (site.state / "go").write_text("go1.99.1")
    second = tools(site.cache)
    assert len(site.builds()) == 4
    assert {first.packer, first.plugin_directory}.isdisjoint({second.packer, second.plugin_directory})


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_build_is_never_taken_for_a_finished_one(site: Site, number: signal.Signals) -> None:
    process = site.start()
    compiler = int((site.state / "hanging").read_text())
    process.send_signal(number)
    process.communicate(timeout=20)
    until(lambda: gone(compiler))
    assert site.finished() == set()

    (site.state / "hang").unlink()
    assert "half a program" not in tools(site.cache).packer.read_text()
    assert site.builds() == ["packer", "packer", "packer-plugin-amazon"]
    assert list((site.cache / "tools").glob(".*unfinished")) == []


def test_a_tool_of_another_version_is_refused_and_not_kept(site: Site) -> None:
    (site.state / "version-restic").write_text("v0.18.0")
    with raises("tool-is-not-the-one-pinned", match="restic") as caught:
        program(site.cache, "restic", shipped="aarch64")
    assert caught.value.found == "v0.18.0 linux arm64"
    assert site.finished() == set()


def test_a_plugin_that_packer_refuses_is_not_kept(site: Site) -> None:
    (site.state / "refuse").touch()
    with raises("plugin-not-installed"):
        tools(site.cache)
    assert site.finished() == {"packer"}


def test_without_a_network_nothing_is_built_and_go_is_quoted(site: Site) -> None:
    words = 'go: github.com/x/y@v1: Get "https://proxy.example/x": dial tcp: lookup proxy.example: no such host'
    (site.state / "list").write_text(words)
    with raises("modules-unavailable") as caught:
        tools(site.cache)
    assert words in caught.value.found
    assert "network" in caught.value.fix
    assert site.builds() == []


def test_too_little_disk_is_said_before_anything_is_downloaded(site: Site) -> None:
    (site.state / "list").write_text("must not be asked")
    with raises("disk-full") as caught:
        tools(site.cache, needed_bytes=10**18)
    assert re.fullmatch(r"\d+\.\d GB", caught.value.found)
    assert site.builds() == []


def test_a_long_build_says_what_it_is_at(site: Site, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
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
    site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
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
