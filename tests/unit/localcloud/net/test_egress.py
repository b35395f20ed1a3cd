"""The egress proxy connects a client to the server it names or says why not, and logs each connection."""

from __future__ import annotations

import asyncio
import errno
import io
import json
import socket
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from localcloud.net import egress, outside
from localcloud.net.egress import Connection, Proxy, Streams
from tests.support.errors import raises
from tests.unit.localcloud.net.test_server_name import client_hello

REQUEST = b"GET / HTTP/1.1\r\nHost: repo.test\r\n\r\n"
BODY = bytes(range(256)) * 4000


def never(name: str, port: int) -> list[str]:
    raise AssertionError(f"{name} was looked up")


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Stand for a server outside: send what came back, then much more."""
    writer.write((await reader.read(1 << 16)) + BODY)
    writer.write_eof()
    await reader.read()
    writer.close()


def proxied(
    say: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[bytes]],
    *,
    port: int = 80,
    resolve: egress.Resolve = never,
    overridden: bool = True,
    server: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]] = answer,
    seconds_to_name: float = 10,
) -> tuple[bytes, Connection]:
    """Let a client talk through a proxy to a server on loopback; return what it heard and what was logged."""
    log = io.StringIO()

    async def talk() -> bytes:
        outside_server = await asyncio.start_server(server, "127.0.0.1", 0)

        async def connect(address: str, _port: int) -> Streams:
            # A server of a test has no port below 1024.
            return await asyncio.open_connection(address, outside_server.sockets[0].getsockname()[1])

        overrides = {"repo.test": "127.0.0.1"} if overridden else {}
        proxy = Proxy("eu-west-1", resolve, log, overrides, connect=connect, seconds_to_name=seconds_to_name)
        ended = asyncio.Event()

        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await proxy.take(port, reader, writer)
            ended.set()

        front = await asyncio.start_server(take, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*front.sockets[0].getsockname()[:2])
        try:
            async with asyncio.timeout(20):
                received = await say(reader, writer)
                await ended.wait()
        finally:
            writer.close()
            front.close()
            outside_server.close()
        return received

    received = asyncio.run(talk())
    (line,) = log.getvalue().splitlines()
    return received, Connection(**json.loads(line))


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(REQUEST)
    writer.write_eof()
    return await reader.read()


def test_bytes_go_through_both_ways_unchanged_and_are_counted() -> None:
    received, connection = proxied(ask)
    assert received == REQUEST + BODY
    assert (connection.name, connection.port, connection.ended) == ("repo.test", 80, "closed")
    assert (connection.sent, connection.received) == (len(REQUEST), len(received))
    assert connection.source == "127.0.0.1"


def test_a_tls_client_is_passed_on_with_the_very_bytes_it_began_with_however_they_come() -> None:
    hello = client_hello("repo.test")

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        for part in (hello[:3], hello[3:200], hello[200:]):
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0.01)
        writer.write_eof()
        return await reader.read()

    received, connection = proxied(say, port=443)
    assert received == hello + BODY
    assert (connection.name, connection.port, connection.sent) == ("repo.test", 443, len(hello))


@pytest.mark.parametrize(
    ("host", "reason"),
    [
        (b"127.0.0.1", "no name of the internet"),
        (b"localhost", "no name of the internet"),
        (b"s3.amazonaws.com", "the local cloud's own"),
        (b"repo.test:8080", "no name of the internet"),
        (b"\x1b[2J.test", "no name of the internet"),
        (b"x" * 5000, "no name of the internet"),
    ],
)
def test_what_may_not_be_reached_is_refused_before_anybody_is_asked_for_it(host: bytes, reason: str) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(REQUEST.replace(b"repo.test", host))
        return await reader.read()

    received, connection = proxied(say, overridden=False)
    assert received.startswith(b"HTTP/1.1 403 ")
    assert reason.encode() in received
    assert connection.ended.startswith("refused: ")
    assert reason in connection.ended
    assert (connection.sent, connection.received) == (0, 0)
    assert connection.name.isprintable()
    assert len(connection.name) <= 253


@pytest.mark.parametrize("address", ["127.0.0.1", "10.213.0.1", "169.254.169.254", "::1"])
def test_a_name_that_leads_to_a_private_address_is_refused(address: str) -> None:
    received, connection = proxied(ask, overridden=False, resolve=lambda name, port: ["8.8.8.8", address])
    assert received.startswith(b"HTTP/1.1 403 ")
    assert connection.ended == f"refused: it leads to {address}, which is not public"


def test_a_name_is_looked_up_once_and_the_address_that_was_looked_at_is_the_one_that_is_reached() -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    proxy = Proxy("eu-west-1", lambda name, port: next(answers), io.StringIO())
    assert asyncio.run(proxy.address_of("repo.test", 443)) == "8.8.8.8"


def test_a_name_that_nobody_has_fails_with_the_resolvers_words() -> None:
    def resolve(name: str, port: int) -> list[str]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    received, connection = proxied(ask, overridden=False, resolve=resolve)
    assert received.startswith(b"HTTP/1.1 502 ")
    assert connection.ended.startswith("failed: ")
    assert "Name or service not known" in connection.ended


def test_a_tls_client_that_is_refused_hears_an_alert() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(client_hello("s3.amazonaws.com"))
        return await reader.read()

    received, connection = proxied(say, port=443, overridden=False)
    assert received == bytes([21, 3, 3, 0, 2, 2, 112])  # fatal, unrecognized_name
    assert connection.name == "s3.amazonaws.com"


def test_a_client_that_says_nothing_is_not_waited_for_for_ever() -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        return await reader.read()

    _, connection = proxied(say, seconds_to_name=0.05)
    assert connection.ended == "failed: TimeoutError"

    async def leave(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write_eof()
        return await reader.read()

    _, connection = proxied(leave)
    assert "before it named anybody" in connection.ended


def test_a_server_that_breaks_off_ends_the_connection_and_is_logged() -> None:
    async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        linger = (1).to_bytes(4, "little") + bytes(4)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(REQUEST)
        try:
            return await reader.read()
        except ConnectionError:
            return b""

    received, connection = proxied(say, server=reset)
    assert BODY not in received
    assert connection.ended.startswith("failed: ")


def test_a_client_that_leaves_with_the_whole_answer_has_not_failed() -> None:
    """The incident: each curl ended in "Transport endpoint is not connected", as the server left at the same moment."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1 << 16)
        writer.write(b"answer")
        await writer.drain()
        writer.close()

    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
        writer.write(REQUEST)
        received = await reader.read(6)
        await asyncio.sleep(0.05)
        for _ in range(3):
            writer.write(b"goodbye")  # the server is gone: its kernel answers with a reset, and then nobody takes more
            await writer.drain()
            await asyncio.sleep(0.05)
        writer.close()
        return received

    received, connection = proxied(say, server=close)
    assert received == b"answer"
    assert connection.ended == "closed"


def test_somebody_who_left_need_not_be_told_that_nothing_more_comes() -> None:
    class Gone(asyncio.StreamWriter):
        def __init__(self) -> None:
            pass

        def __del__(self) -> None:
            pass

        def write_eof(self) -> None:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")

    async def copy() -> None:
        source = asyncio.StreamReader()
        source.feed_eof()
        await egress.copy(b"", source, Gone(), Connection("10.0.0.1", 80), "sent")

    asyncio.run(copy())


def test_names_of_the_hosts_file_lead_to_its_addresses_and_no_others(tmp_path: Path) -> None:
    path = tmp_path / "hosts"
    path.write_text("# for a test\n\n127.0.0.9 Repo.test  two.test # trailing\n")
    assert egress.read_overrides(path) == {"repo.test": "127.0.0.9", "two.test": "127.0.0.9"}
    assert egress.read_overrides(None) == {}
    proxy = Proxy("eu-west-1", lambda name, port: ["10.0.0.1"], io.StringIO(), egress.read_overrides(path))
    assert asyncio.run(proxy.address_of("two.test", 80)) == "127.0.0.9"
    with pytest.raises(outside.Refused):
        asyncio.run(proxy.address_of("three.test", 80))


def test_the_log_of_a_cloud_without_egress_is_empty(tmp_path: Path) -> None:
    assert egress.connections(tmp_path) == []
    (tmp_path / egress.LOG).write_text('{"source": "10.213.0.10", "port": 443, "name": "a.test", "ended": "closed"}\n')
    assert egress.connections(tmp_path) == [Connection("10.213.0.10", 443, "a.test", ended="closed")]


def test_the_proxy_serves_until_the_cloud_at_the_other_end_is_gone() -> None:
    ours, theirs = socket.socketpair()
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in outside.PORTS]
    proxy = Proxy("eu-west-1", never, io.StringIO())
    serving = threading.Thread(target=lambda: asyncio.run(proxy.serve(listeners, theirs)))
    serving.start()
    with socket.create_connection(listeners[0].getsockname()) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert client.recv(100).startswith(b"HTTP/1.1 403 ")
    assert serving.is_alive()
    ours.close()
    serving.join(20)
    assert not serving.is_alive()
    theirs.close()


def test_a_cloud_whose_egress_proxy_never_comes_does_not_start() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.shutdown(socket.SHUT_WR)
        with raises("cloud-failed", match="it ended"):
            egress.hand_over("127.0.0.1", ours, (0, 0))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"r")
        egress.hand_over("127.0.0.1", ours, (0, 0))
        _, handles, _, _ = socket.recv_fds(theirs, 1, 2)
        for handle in handles:
            with socket.socket(fileno=handle) as listener:
                assert listener.getsockname()[0] == "127.0.0.1"
        assert len(handles) == 2
