"""The name that a client asks for is read from its first bytes, whatever they are and however they come."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from localcloud.net import server_name
from localcloud.net.server_name import LIMIT_BYTES, NoName

NAME = "al2023-repos-eu-west-1.example"


def client_hello(name: str | None) -> bytes:
    """What a real TLS client says first."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    context.check_hostname = False
    connection = context.wrap_bio(incoming, outgoing, server_hostname=name)
    with pytest.raises(ssl.SSLWantReadError):
        connection.do_handshake()
    return outgoing.read()


HELLO = client_hello(NAME)
REQUEST = b"GET /core/mirror.list HTTP/1.1\r\nUser-Agent: dnf\r\nHost: " + NAME.encode() + b"\r\n\r\n"


def in_records(cuts: list[int]) -> bytes:
    """The same message, cut into records at these places."""
    message = HELLO[5:]
    edges = [0, *sorted({cut % len(message) for cut in cuts} - {0}), len(message)]
    parts = [message[start:end] for start, end in pairwise(edges)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2, "big") + part for part in parts)


def with_extensions(extensions: bytes) -> bytes:
    """A ClientHello with nothing in it but these extensions."""
    message = (
        b"\x03\x03" + bytes(32) + b"\0" + b"\0\2\x13\x01" + b"\1\0" + len(extensions).to_bytes(2, "big") + extensions
    )
    message = b"\1" + len(message).to_bytes(3, "big") + message
    return b"\x16\x03\x01" + len(message).to_bytes(2, "big") + message


def server_names(*names: bytes, sort: int = 0) -> bytes:
    listed = b"".join(bytes([sort]) + len(name).to_bytes(2, "big") + name for name in names)
    content = len(listed).to_bytes(2, "big") + listed
    return b"\0\0" + len(content).to_bytes(2, "big") + content


def test_the_name_of_a_real_client_is_found() -> None:
    assert server_name.server_name(HELLO) == NAME
    assert server_name.host(REQUEST) == NAME
    assert server_name.host(REQUEST.replace(NAME.encode(), NAME.encode() + b":80")) == NAME


def test_what_is_not_whole_yet_is_waited_for_wherever_it_breaks_off() -> None:
    assert {server_name.server_name(HELLO[:length]) for length in range(len(HELLO))} == {None}
    assert {server_name.host(REQUEST[:length]) for length in range(len(REQUEST))} == {None}


@given(st.lists(st.integers(0, 5000), max_size=12), st.binary(max_size=40))
def test_a_hello_in_many_records_names_the_same_server_and_what_follows_it_is_not_looked_at(
    cuts: list[int], rest: bytes
) -> None:
    assert server_name.server_name(in_records(cuts) + rest) == NAME


def outcome(read: Callable[[bytes], str | None], received: bytes) -> str | None:
    """What is made of these bytes; a refusal is a result, anything else that is raised is a failure of the test."""
    try:
        return read(received)
    except NoName as reason:
        return f"refused: {reason}"


# A name that is not ASCII is refused; Python's ssl reports what it could not decode besides.
undecodable = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@undecodable
@given(st.binary(max_size=600), st.binary(max_size=300))
def test_bytes_of_any_kind_are_a_name_or_none_or_refused(received: bytes, extensions: bytes) -> None:
    for read, words in (
        (server_name.server_name, received),
        (server_name.host, received),
        (server_name.server_name, with_extensions(extensions)),
    ):
        result = outcome(read, words)
        assert result is None or isinstance(result, str)


@undecodable
@given(st.integers(0, len(HELLO) - 1), st.integers(0, 255), st.integers(0, len(REQUEST) - 1))
def test_a_hello_with_any_byte_changed_never_fails_otherwise(at: int, value: int, place: int) -> None:
    changed = HELLO[:at] + bytes([value]) + HELLO[at + 1 :]
    for read, words in (
        (server_name.server_name, changed),
        (server_name.host, REQUEST[:place] + bytes([value]) + REQUEST[place:]),
    ):
        result = outcome(read, words)
        assert result is None or isinstance(result, str)


@undecodable
@pytest.mark.parametrize(
    "received",
    [
        client_hello(None),
        b"SSH-2.0-OpenSSH",
        b"\x16\x02" + bytes(20),  # no TLS
        b"\x16\x03\x01\x00\x00" + bytes(20),  # a record of no length
        b"\x16\x03\x01\x48\x01" + bytes(20),  # a record that is too long
        b"\x16\x03\x01\x00\x14\x02\x00\x00\x10" + bytes(16),  # TLS that does not begin with a ClientHello
        b"\x16\x03\x01\x00\x05\x01\xff\xff\xff\x00",  # a ClientHello that is too long
        with_extensions(server_names(b"one.test", b"two.test")),
        with_extensions(server_names(b"one.test") + server_names(b"two.test")),
        with_extensions(server_names(b"one.test", sort=1)),
        with_extensions(server_names(b"\xff.test")),
        with_extensions(server_names(b"one\0.test")),
        with_extensions(server_names(b"one.test")[:-1]),
        with_extensions(bytes.fromhex("0000 0009 0007 00 0005") + b"name"),
    ],
)
def test_a_hello_that_names_not_exactly_one_server_is_refused(received: bytes) -> None:
    assert server_name.server_name(with_extensions(server_names(b"one.test"))) == "one.test"
    with pytest.raises(NoName):
        server_name.server_name(received)


def test_a_client_that_never_comes_to_the_point_is_refused() -> None:
    short = b"\x16\x03\x01\x00\x01" + b"\x01"
    with pytest.raises(NoName):
        server_name.server_name((short + b"\x16\x03\x01\x00\x01\x00" * LIMIT_BYTES)[:LIMIT_BYTES])
    with pytest.raises(NoName, match="does not end"):
        server_name.server_name(b"\x16\x03\x01\x40\x00\x01\x00\xff\xff" + bytes(LIMIT_BYTES))
    with pytest.raises(NoName, match="does not end"):
        server_name.host(b"GET / HTTP/1.1\r\nA: " + b"x" * LIMIT_BYTES)


@pytest.mark.parametrize(
    ("received", "reason"),
    [
        (b"GET / HTTP/1.1\r\nA: b\r\n\r\n", "without a Host"),
        (b"GET / HTTP/1.1\r\nHost: a.test\r\nhost: b.test\r\n\r\n", "2 names"),
        (b"GET / HTTP/1.1\r\nA: b\r\n Host: a.test\r\nHost: b.test\r\n\r\n", "no HTTP/1 header"),
        (b"GET / HTTP/1.1\r\nHost : a.test\r\n\r\n", "no HTTP/1 header"),
        (b"GET http://a.test/ HTTP/1.1\r\nHost: b.test\r\n\r\n", "as to a proxy"),
        (b"CONNECT a.test:443 HTTP/1.1\r\nHost: a.test\r\n\r\n", "as to a proxy"),
        (b"PRI * HTTP/2.0\r\n\r\n", "no HTTP/1 request"),
        (b"\x16\x03\x01\r\n\r\n", "no HTTP/1 request"),
        (b"GET / HTTP/1.1\r\nHost: \xff.test\r\n\r\n", "not ASCII"),
    ],
)
def test_a_request_that_names_not_exactly_one_host_is_refused(received: bytes, reason: str) -> None:
    with pytest.raises(NoName, match=reason):
        server_name.host(received)
