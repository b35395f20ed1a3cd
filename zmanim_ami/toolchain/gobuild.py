"""One `go build`, with progress for people and Go's failures as errors that say what to do."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event, Thread

from support.errors import Error, HostLacks
from support.process import CommandFailed, run
from support.progress import say, step
from zmanim_ami.toolchain.go_caches import in_use

# Reproducible and small: no path of this host, no symbol table, no DWARF. Not even making DWARF takes an eighth off a
# build. All that ships is built so, and shares what is compiled.
SHIPPED = ("-trimpath", "-gcflags=all=-dwarf=false")
STRIPPED = "-ldflags=-s -w"
# Tools of this host wait for AWS rather than compute: not optimising them takes another fifth off, and costs Packer
# 10 ms at its start.
HOST_ONLY = ("-trimpath", "-gcflags=all=-N -l -dwarf=false")
_NO_ROOM = ("no space left on device", "disk quota exceeded")
# Go's words, and the error that they tell of: {what} was to be built. The first that matches counts. Of the network are
# its words for a module that it could not get; anything else that `go list` says is about our own go.mod.
_KNOWN: tuple[tuple[tuple[str, ...], str, str, str, str], ...] = (
    (
        ("checksum mismatch", "SECURITY ERROR"),
        "module-checksum-wrong",
        "a source module of {what} is not the one that was pinned",
        "the checksums in its go.sum",
        "do not go on: find out what your module proxy (`go env GOPROXY`) serves",
    ),
    (
        (
            *("dial tcp", "no such host", "connection refused", "connection reset", "i/o timeout", "TLS handshake"),
            *("x509:", "unexpected EOF", "proxyconnect", "module lookup disabled", "Service Unavailable"),
            *("Bad Gateway", "Gateway Timeout", "Too Many Requests", "Forbidden", "404 Not Found", "410 Gone"),
        ),
        "modules-unavailable",
        "Go could not download the source modules of {what}",
        "an answer from the module proxy",
        "check the network, HTTPS_PROXY and `go env GOPROXY`, then run this again: downloads are kept",
    ),
    (
        ("",),
        "go-build-failed",
        "Go could not build {what}",
        "`go build` ends with exit code 0",
        "the lines above are Go's own",
    ),
)


@dataclass(frozen=True)
class Source:
    """What to build, and where its words go."""

    what: str  # for people: "packer 1.15.0"
    directory: Path  # of the module: holds go.mod
    package: str  # import path, or "./cmd/api"
    program: Path  # the `go`
    environment: Mapping[str, str]  # complete
    report_seconds: float = 15.0  # how often a person is told how far it is


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
        with in_use(source.environment), _reported(source, describe):
            run(command, cwd=source.directory, env=source.environment, on_line=lines.append)
    except CommandFailed as error:
        raise go_failure(source.what, error.output) from error
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
            with in_use(environment), _reported(source, describe):
                run(command, cwd=source.directory, env=environment, on_line=compiled.append)
        except CommandFailed as error:
            raise go_failure(source.what, error.output) from error
        program.rename(output)


def go_failure(what: str, output: str) -> Error:
    """Return the error that Go's own output tells of, after go failed at building `what`."""
    # A line of one word is a package's name, which `go build -v` prints as it goes.
    lines = [line for line in output.splitlines() if len(line.split()) > 1][-12:]
    words = "\n".join(["", *lines] if len(lines) > 1 else lines)
    if is_disk_full(output):
        return disk_full(f"{what} could not be built", "room for Go's module and build caches", words)
    _, code, summary, expected, fix = next(row for row in _KNOWN if any(text in output for text in row[0]))
    return Error(summary.format(what=what), code=code, expected=expected, found=words, fix=fix)


def is_disk_full(output: str) -> bool:
    """Tell whether a program's output says that it ran out of disk space or quota."""
    return any(text in output.lower() for text in _NO_ROOM)


def disk_full(consequence: str, expected: str, found: str) -> HostLacks:
    """Return the error of a disk that is full; what is already built is kept."""
    return HostLacks(
        f"the disk is full: {consequence}",
        code="disk-full",
        expected=expected,
        found=found,
        fix="free some space, or set XDG_CACHE_HOME to a larger disk; what is already built is kept",
    )


@contextmanager
def _reported(source: Source, describe: Callable[[], str]) -> Iterator[None]:
    over = Event()
    start = time.monotonic()

    def report() -> None:
        while not over.wait(source.report_seconds):
            say(f"  {source.what}: {describe()} ({time.monotonic() - start:.0f} s)")

    thread = Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
