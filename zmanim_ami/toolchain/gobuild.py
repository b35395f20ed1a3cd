"""One `go build`, with progress for people and Go's failures told as Faults."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

from support.process import CommandFailed, run
from support.progress import say, step
from zmanim_ami.toolchain.go_errors import go_failure

# Reproducible and small: no path of this host, no symbol table, no DWARF. Not even making DWARF takes an eighth off a
# build. All that ships is built so, and shares what is compiled.
SHIPPED = ("-trimpath", "-gcflags=all=-dwarf=false")
STRIPPED = "-ldflags=-s -w"
# Tools of this host wait for AWS rather than compute: not optimising them takes another fifth off, and costs Packer
# 10 ms at its start.
HOST_ONLY = ("-trimpath", "-gcflags=all=-N -l -dwarf=false")
_REPORT_SECONDS = 15.0


@dataclass(frozen=True)
class Source:
    """What to build, and where its words go."""

    what: str  # for people: "packer 1.15.0"
    directory: Path  # of the module: holds go.mod
    package: str  # import path, or "./cmd/api"
    program: Path  # the `go`
    environment: Mapping[str, str]  # complete


def download(source: Source) -> int:
    """Download the modules that `source` needs and return how many packages it has, the standard library's included.

    Raises `modules-unavailable`, `module-checksum-wrong`, `disk-full`, `go-build-failed`.
    """
    command = [str(source.program), "list", "-deps", source.package]
    lines: list[str] = []

    def describe() -> str:
        modules = [line.split()[2] for line in lines if line.startswith("go: downloading ")]
        return f"{len(modules)} modules" + (f", at {modules[-1]}" if modules else "")

    try:
        with _reported(source.what, describe):
            run(command, cwd=source.directory, env=source.environment, on_line=lines.append)
    except CommandFailed as failure:
        raise go_failure(source.what, failure.output) from failure
    return sum(not line.startswith("go: ") for line in lines)


def compile_and_link(source: Source, output: Path, packages: int, flags: Sequence[str]) -> None:
    """Build `source` into the file `output`, whose directory must exist.

    `packages` is what `download` returned, or 0 when it is not known: progress tells how far the build is by it.

    Raises what `download` raises. When interrupted it leaves no part of a program behind, and keeps what is compiled.
    """
    compiled: list[str] = []

    def describe() -> str:
        of = f" of at most {packages}" if packages else ""
        return f"{len(compiled)}{of} packages" + (f", at {compiled[-1]}" if compiled else "")

    # Go works and links beside the output, not in /tmp, which may be small; then the result appears by one rename, as a
    # build that outlives our kill -9 must not write into what a later one has made.
    with TemporaryDirectory(prefix=".go-", dir=output.parent) as scratch, step(f"building {source.what}"):
        program = Path(scratch) / "program"
        command = [str(source.program), "build", "-v", *flags, "-o", str(program), source.package]
        environment = {**source.environment, "GOTMPDIR": scratch}
        try:
            with _reported(source.what, describe):
                run(command, cwd=source.directory, env=environment, on_line=compiled.append)
        except CommandFailed as failure:
            raise go_failure(source.what, failure.output) from failure
        program.rename(output)


@contextmanager
def _reported(what: str, describe: Callable[[], str]) -> Iterator[None]:
    over = Event()
    start = time.monotonic()

    def report() -> None:
        while not over.wait(_REPORT_SECONDS):
            say(f"  {what}: {describe()} ({time.monotonic() - start:.0f} s)")

    thread = Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
