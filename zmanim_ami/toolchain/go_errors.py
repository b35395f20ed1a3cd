"""What Go tells of a build that failed, as an error that says what to do."""

from __future__ import annotations

from support.errors import Error, HostLacks

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


def go_failure(what: str, output: str) -> Error:
    """Return the Error that Go's own output tells of, after go failed at building `what`."""
    words = _last_lines(output)
    if is_disk_full(output):
        return HostLacks(
            f"the disk is full: {what} could not be built",
            code="disk-full",
            expected="room for Go's module and build caches",
            found=words,
            fix="free some space, or set XDG_CACHE_HOME to a larger disk; what is already built is kept",
        )
    if "checksum mismatch" in output or "SECURITY ERROR" in output:
        return Error(
            f"a source module of {what} is not the one that was pinned",
            code="module-checksum-wrong",
            expected="the checksums in its go.sum",
            found=words,
            fix="do not go on: find out what your module proxy (`go env GOPROXY`) serves",
        )
    if any(text in output for text in _NO_NETWORK):
        return Error(
            f"Go could not download the source modules of {what}",
            code="modules-unavailable",
            expected="an answer from the module proxy",
            found=words,
            fix="check the network, HTTPS_PROXY and `go env GOPROXY`, then run this again: downloads are kept",
        )
    return Error(
        f"Go could not build {what}",
        code="go-build-failed",
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
