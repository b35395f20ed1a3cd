"""Which name a client asks for: TLS's server name or HTTP's Host, read from the first bytes that it sends.

Nothing is decrypted and nothing is trusted: whatever the bytes are, the answer is a name, that more are needed, or
NoName.
"""

from __future__ import annotations

import re

# More than any client says before it hears an answer: a ClientHello takes half a kilobyte, two with the newest keys.
LIMIT_BYTES = 16 << 10
_HANDSHAKE, _CLIENT_HELLO, _SERVER_NAME, _HOST_NAME = 22, 1, 0, 0
_RECORD_BYTES = 1 << 14
_REQUEST = re.compile(rb"[A-Z]+ (\S+) HTTP/1\.[01]")


class NoName(Exception):
    """These bytes name nobody; the text says why."""


def server_name(said: bytes) -> str | None:
    """Return the name that a TLS client asks for (RFC 6066); None while more bytes are needed. Raises NoName."""
    hello = _client_hello(said)
    if hello is None:
        return None
    reader = _Reader(hello)
    reader.take(2 + 32)  # version, random
    reader.vector(1)  # session
    reader.vector(2)  # cipher suites
    reader.vector(1)  # compression
    extensions = _Reader(reader.vector(2) if reader.left else b"")
    found: list[bytes] = []
    while extensions.left:
        kind, content = extensions.number(2), extensions.vector(2)
        if kind == _SERVER_NAME:
            names = _Reader(_Reader(content).vector(2))
            while names.left:
                sort, name = names.number(1), names.vector(2)
                found += [name] if sort == _HOST_NAME else []
    return _only(found, "a TLS client that names no server")


def host(said: bytes) -> str | None:
    """Return the Host of an HTTP/1 request; None while more bytes are needed. Raises NoName."""
    head, end, _ = said.partition(b"\r\n\r\n")
    if not end:
        if len(said) >= LIMIT_BYTES:
            raise NoName("a request whose head does not end")
        return None
    request, *lines = head.split(b"\r\n")
    match = _REQUEST.fullmatch(request)
    if not match:
        raise NoName("no HTTP/1 request")
    if not match[1].startswith(b"/"):
        raise NoName("a request as to a proxy")
    fields = [line.partition(b":") for line in lines]
    if any(not separator or name != name.strip() for name, separator, _ in fields):
        raise NoName("no HTTP/1 header")
    hosts = [value.strip() for name, _, value in fields if name.lower() == b"host"]
    return _only(hosts, "a request without a Host").removesuffix(":80")


def _only(names: list[bytes], otherwise: str) -> str:
    if len(names) != 1:
        raise NoName(otherwise if not names else f"{len(names)} names at once")
    try:
        return names[0].decode("ascii")
    except UnicodeDecodeError as error:
        raise NoName("a name that is not ASCII") from error


def _client_hello(said: bytes) -> bytes | None:
    """Put the message together, which may come in several records; None while it is not whole."""
    message, at = b"", 0
    while at < len(said):
        if said[at] != _HANDSHAKE or said[at + 1 : at + 2] not in {b"", b"\x03"}:
            raise NoName("no TLS")
        length = int.from_bytes(said[at + 3 : at + 5], "big")
        if len(said) < at + 5:
            break
        if not 0 < length <= _RECORD_BYTES:
            raise NoName("a TLS record that can't be")
        message += said[at + 5 : at + 5 + length]
        at += 5 + length
        if message and message[0] != _CLIENT_HELLO:
            raise NoName("TLS that does not begin with a ClientHello")
        whole = 4 + int.from_bytes(message[1:4], "big") if len(message) >= 4 else 0
        if whole > LIMIT_BYTES:
            raise NoName("a ClientHello that is too long")
        if whole and len(message) >= whole:
            return message[4:whole]
    if len(said) >= LIMIT_BYTES:
        raise NoName("a ClientHello that does not end")
    return None


class _Reader:
    """Takes bytes off the front, never more than there are."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def left(self) -> int:
        return len(self._content) - self._at

    def take(self, length: int) -> bytes:
        if length > self.left:
            raise NoName("a ClientHello that contradicts itself")
        self._at += length
        return self._content[self._at - length : self._at]

    def number(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def vector(self, width: int) -> bytes:
        """Take what a length of so many bytes stands before."""
        return self.take(self.number(width))
