"""Which name a client asks for: TLS's server name or HTTP's Host, read from the first bytes that it sends.

Nothing is decrypted and nothing is trusted: whatever the bytes are, the result is a name, that more are needed, or
NoName.
"""

from __future__ import annotations

import re
import ssl

# More than any client sends before it hears anything: a ClientHello takes half a kilobyte, two with the newest keys.
LIMIT_BYTES = 16 << 10
_REQUEST = re.compile(rb"[A-Z]+ (\S+) HTTP/1\.[01]")


class NoName(Exception):
    """These bytes name nobody; the text says why."""


def server_name(received: bytes) -> str | None:
    """Return the name that a TLS client asks for (RFC 6066); None while more bytes are needed. Raises NoName."""
    names: list[str | None] = []

    def stop(_connection: object, name: str | None, _context: object) -> int:
        names.append(name)
        return ssl.ALERT_DESCRIPTION_USER_CANCELLED  # the handshake is the server's, elsewhere

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = stop
    incoming = ssl.MemoryBIO()
    incoming.write(received)
    try:
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    except ssl.SSLWantReadError as error:
        if len(received) >= LIMIT_BYTES:
            raise NoName("a ClientHello that does not end") from error
        return None
    except ssl.SSLError as error:
        if not names:
            raise NoName(f"no ClientHello that names one server: {error.reason}") from error
    if names[0] is None:
        raise NoName("a TLS client that names no server")
    return names[0]


def host(received: bytes) -> str | None:
    """Return the Host of an HTTP/1 request; None while more bytes are needed. Raises NoName."""
    head, end, _ = received.partition(b"\r\n\r\n")
    if not end:
        if len(received) >= LIMIT_BYTES:
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
    if len(hosts) != 1:
        raise NoName(f"{len(hosts)} names at once" if hosts else "a request without a Host")
    if not hosts[0].isascii():
        raise NoName("a name that is not ASCII")
    return hosts[0].decode().removesuffix(":80")
