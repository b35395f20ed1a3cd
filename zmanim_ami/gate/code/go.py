"""The reference API: gofmt, go vet, staticcheck, and its tests, under the race detector where there is a C compiler."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from support.errors import HostLacks
from zmanim_ami import toolchain
from zmanim_ami.gate.finding import Finding, Level, ask, located, skipped
from zmanim_ami.toolchain.environment import user_cache
from zmanim_ami.toolchain.go import Go, go
from zmanim_ami.toolchain.go_caches import bound, in_use
from zmanim_ami.toolchain.gobuild import HOST_ONLY

API = Path("api")


def check(tree: Path) -> Iterator[Finding]:
    """Yield what each of them has to say about the API's source."""
    cache = user_cache()
    try:
        made_by = go(cache)
        linter = toolchain.program(cache, "staticcheck")
    except HostLacks as lacks:
        yield skipped(lacks, "the reference API")
        return
    env = _environment(made_by)
    with in_use(env):
        yield from _findings(tree, str(made_by.program), linter, env)
    bound(cache)


def _findings(tree: Path, program: str, linter: Path, env: Mapping[str, str]) -> Iterator[Finding]:
    root = ask([program, "env", "GOROOT"], tree, env).stdout.strip()
    unformatted = ask([f"{root}/bin/gofmt", "-l", "."], tree / API, env).stdout.split()
    for name in unformatted:
        yield Finding(f"{API}/{name}", 0, f"not as gofmt writes it: gofmt -w {API}/{name}")
    # The race detector needs cgo, and that a C compiler: Go itself has none.
    compiler = shutil.which("gcc") or shutil.which("clang")
    race = {"CGO_ENABLED": "1", "CC": compiler} if compiler else {}
    test = [program, "test", *(["-race"] if compiler else []), "./..."]
    for command, more in (([program, "vet", "./..."], {}), ([str(linter), "./..."], {}), (test, race)):
        yield from _complaints(command, tree, {**env, **more})
    if not compiler:
        words = "the API's tests under the race detector: there is no C compiler (apt-get install gcc libc6-dev)"
        yield Finding(str(API), 0, words, Level.SKIPPED)


def _environment(made_by: Go) -> dict[str, str]:
    # staticcheck starts `go` by name, so the one that was chosen comes first on PATH.
    path = f"{made_by.program.parent}:{made_by.environment['PATH']}"
    # All of them, staticcheck's own `go list` too, then share what was compiled for the tools: half a minute less each.
    flags = " ".join([made_by.environment["GOFLAGS"], *(f"'{flag}'" for flag in HOST_ONLY)])
    return {**made_by.environment, "PATH": path, "GOFLAGS": flags}


def _complaints(command: list[str], tree: Path, env: Mapping[str, str]) -> list[Finding]:
    done = ask(command, tree / API, env)
    if done.returncode == 0:
        return []
    lines = [line.removeprefix("vet: ").strip() for line in (done.stdout + done.stderr).splitlines()]
    complaints = [line for line in lines if not line.startswith(("ok ", "?", "#", "FAIL\t"))]
    findings = located([*complaints, f"{Path(command[0]).name} ended with exit code {done.returncode}"], tree / API)
    # Go names files below the module; a reader starts from the tree.
    return [replace(each, file=str(API / each.file)) for each in findings]
