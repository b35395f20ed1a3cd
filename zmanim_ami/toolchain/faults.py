"""What can go wrong while the tools are built, one class per cause."""

from __future__ import annotations

from support.errors import Fault, HostLacks


class NoGo(HostLacks):
    """There is no Go that is new enough, and none could be installed either."""


class ModulesUnavailable(Fault):
    """Go could not get the source modules that a build needs."""


class ModuleChecksumWrong(Fault):
    """A downloaded module is not the one that go.sum pins."""


class GoBuildFailed(Fault):
    """The Go compiler or linker refused."""


class DiskFull(HostLacks):
    """The disk filled up, or has too little room to begin with."""


class ToolIsNotTheOnePinned(Fault):
    """A tool was built, but it is another version or for another machine than was asked for."""


class PluginNotInstalled(Fault):
    """Packer refused the plugin that was built for it."""


class PinUnreadable(Fault):
    """A go.mod below tools/ does not say what it pins."""


_NO_ROOM = ("no space left on device", "disk quota exceeded")
# Go's words for a module that it could not get; anything else that `go list` says is about our own go.mod.
_NO_NETWORK = (
    "dial tcp",
    "no such host",
    "connection refused",
    "connection reset",
    "i/o timeout",
    "TLS handshake",
    "x509:",
    "unexpected EOF",
    "proxyconnect",
    "module lookup disabled",
    "Service Unavailable",
    "Bad Gateway",
    "Gateway Timeout",
    "Too Many Requests",
    "Forbidden",
    "404 Not Found",
    "410 Gone",
)


def go_failure(what: str, output: str) -> Fault:
    """Return the Fault that Go's own output tells of, after go failed at building `what`."""
    words = _last_lines(output)
    if is_disk_full(output):
        return DiskFull(
            f"the disk is full: {what} could not be built",
            expected="room for Go's module and build caches",
            found=words,
            fix="free some space, or set XDG_CACHE_HOME to a larger disk; what is already built is kept",
        )
    if "checksum mismatch" in output or "SECURITY ERROR" in output:
        return ModuleChecksumWrong(
            f"a source module of {what} is not the one that was pinned",
            expected="the checksums in its go.sum",
            found=words,
            fix="do not go on: find out what your module proxy (`go env GOPROXY`) serves",
        )
    if any(text in output for text in _NO_NETWORK):
        return ModulesUnavailable(
            f"Go could not download the source modules of {what}",
            expected="an answer from the module proxy",
            found=words,
            fix="check the network, HTTPS_PROXY and `go env GOPROXY`, then run this again: downloads are kept",
        )
    return GoBuildFailed(
        f"Go could not build {what}",
        expected="`go build` ends with exit code 0",
        found=words,
        fix="the lines above are Go's own",
    )


def is_disk_full(output: str) -> bool:
    """Tell whether a program's output says that it ran out of disk space or quota."""
    return any(text in output.lower() for text in _NO_ROOM)


def _last_lines(output: str, count: int = 12) -> str:
    # A line of one word is a package's name, which `go build -v` prints as it goes.
    lines = [line for line in output.splitlines() if len(line.split()) > 1]
    return "\n".join(["", *lines[-count:]]) if len(lines) > 1 else "".join(lines)
