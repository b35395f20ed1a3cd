"""A Go that writes what it is told, and so builds any tool at once."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from zmanim_ami.toolchain.pins import versions

# Answers what toolchain asks of Go. Each file in its directory of state tells it something: `go` its own version,
# `version-TOOL` which version it builds, `slow` that a build takes a while, `hang` that it never ends (its process id
# is then in `hanging`), `list` what `go list` fails with. It writes a line to `log` for each build. What it builds is a
# script that can stand in for Packer: it refuses when there is a file `refuse`.
_PROGRAM = """#!{python}
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
        source = Path(os.environ["GOMODCACHE"], tool)
        source.mkdir(parents=True, exist_ok=True)
        with (state / "downloads").open("a") as log:
            print(source, file=log)
        print("fmt", "os", sep="\\n")
    case ["build", *_]:
        with (state / "log").open("a") as log:
            print(tool, file=log)
        print("a/package", file=sys.stderr, flush=True)
        assert Path(os.environ["GOMODCACHE"], tool).is_dir(), "its sources are gone"
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


@dataclass(frozen=True)
class FakeGo:
    """A cache, and a Go that is told what to do by files in `state`."""

    cache: Path
    state: Path

    def builds(self) -> list[str]:
        """Return the tools that it was asked to build, in that order."""
        log = self.state / "log"
        return log.read_text().split() if log.exists() else []

    def sources(self) -> Path:
        """Return where the sources of tools are while they are built."""
        return self.cache / "go" / "tool-modules"

    def downloads(self) -> list[Path]:
        """Return where it has put sources."""
        return [Path(line) for line in (self.state / "downloads").read_text().split()]

    def finished(self) -> set[str]:
        """Return the tools that the cache has, whole."""
        return {path.name.rpartition("-")[0] for path in (self.cache / "tools").glob("[!.]*")}


def fake_go(directory: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    """Put the Go first on PATH; its state, and a cache that is not made yet, are in `directory`."""
    state = directory / "state"
    program = directory / "bin" / "go"
    for each in (state, program.parent):
        each.mkdir()
    program.write_text(_PROGRAM.format(python=sys.executable, state=str(state)))
    program.chmod(0o755)
    (state / "go").write_text("go1.99.0")
    for name, version in versions().items():
        (state / f"version-{name}").write_text(f"v{version}")
    # In CI this Go would not be looked at; a person's caches are none of ours.
    for name in ("CI", "GOCACHE", "GOMODCACHE"):
        monkeypatch.delenv(name, raising=False)
    # No packer of the host, but a shell and setpriv.
    monkeypatch.setenv("PATH", f"{program.parent}:/usr/bin:/bin")
    return FakeGo(directory / "cache", state)
