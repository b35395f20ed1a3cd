"""The way out: `python -m localcloud.net.egress STATE_DIRECTORY LINK`, which control.py starts beside a cloud.

It runs in the host's network namespace without any rights, and listens on no address of the host: the cloud's server
makes the listening sockets in its own namespace and hands them over through LINK, one end of a socket pair. When either
end closes, the other knows that it is alone. Machines need no proxy settings: every name that is not the cloud's leads
to the address that is listened on, and what a client says first (server_name.py) tells which name it was. It is looked
up as the host looks names up, and the bytes go through as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from localcloud.net import outside
from localcloud.net import server_name as hello
from localcloud.net.outside import PORTS, Refused
from localcloud.settings import Cloud, read_cloud, settings_from_json
from support.errors import Error

LOG = "egress.jsonl"
_SECONDS_TO_NAME = 10.0
_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_MEET = 30.0
_CHUNK = 1 << 16
_NOBODY = 65534
# Addresses of a name. Raises OSError when it has none.
Resolve = Callable[[str, int], Sequence[str]]


@dataclass
class Passage:
    """One connection of a machine: its address, what it asked for, bytes each way, seconds, and how it ended.

    `ended` is "closed", or begins with "refused: " or "failed: ".
    """

    source: str
    port: int
    name: str = ""
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    ended: str = ""


def passages(directory: Path) -> list[Passage]:
    """Return the connections that went out of a cloud and are over, by its state directory; none without a way out."""
    try:
        lines = (directory / LOG).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Passage(**json.loads(line)) for line in lines]


def hand_over(cloud: Cloud, link: socket.socket) -> None:
    """Make the listening sockets in this network namespace and give them to the process at the other end of `link`.

    Raises `cloud-failed` when it does not take them.
    """
    listeners = [socket.create_server((cloud.egress_address, port), backlog=128) for port in PORTS]
    link.settimeout(_SECONDS_TO_MEET)
    try:
        socket.send_fds(link, [b"x"], [listener.fileno() for listener in listeners])
        answer = link.recv(1)
    except OSError as error:
        answer, found = b"", str(error)
    else:
        found = "it ended"
    finally:
        for listener in listeners:
            listener.close()
    if not answer:
        raise Error("the way out could not be opened", code="cloud-failed", expected="a proxy on the host", found=found)
    link.settimeout(None)


class Door:
    """Takes connections, one coroutine each. `resolve` looks names up, `log` gets a line for each that is over.

    Names in `led` lead to the address given there, whatever it is; nothing else about them is different.
    """

    def __init__(self, region: str, resolve: Resolve, log: TextIO, led: Mapping[str, str] | None = None) -> None:
        self._region = region
        self._resolve = resolve
        self._log = log
        self._led = dict(led or {})

    async def serve(self, listeners: Sequence[socket.socket], until: socket.socket) -> None:
        """Serve until the other end of `until` is closed. The listeners are those of PORTS, in order."""
        servers = [
            await asyncio.start_server(self._taker(port), sock=listener)
            for listener, port in zip(listeners, PORTS, strict=True)
        ]
        until.setblocking(False)
        await asyncio.get_running_loop().sock_recv(until, 1)
        for server in servers:
            server.close()

    def _taker(self, port: int) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
        async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self.take(port, reader, writer)

        return take

    async def take(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Lead one connection to where it wants, or refuse it, and write it down."""
        began = time.monotonic()
        passage = Passage(str((writer.get_extra_info("peername") or ("gone",))[0]), port)
        try:
            passage.ended = await self._pass(passage, reader, writer)
        except (hello.NoName, Refused) as reason:
            passage.ended = f"refused: {reason}"
            _tell(writer, port, 403, passage)
        except (OSError, TimeoutError) as error:
            passage.ended = f"failed: {str(error) or type(error).__name__}"
            if not passage.received:
                _tell(writer, port, 502, passage)
        finally:
            passage.ended = passage.ended or "failed: the cloud ended"
            writer.close()
            passage.seconds = round(time.monotonic() - began, 3)
            self._log.write(json.dumps(asdict(passage)) + "\n")
            self._log.flush()

    async def _pass(self, passage: Passage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> str:
        async with asyncio.timeout(_SECONDS_TO_NAME):
            said, asked = await _first_words(reader, hello.host if passage.port == 80 else hello.server_name)
        # People read this: a name that is none could hold anything, and as much of it as a client likes.
        passage.name = asked[:253] if asked.isprintable() else ""
        name = outside.check_name(asked, self._region)
        async with asyncio.timeout(_SECONDS_TO_CONNECT):
            there_reader, there_writer = await asyncio.open_connection(*await self._address(name, passage.port))
        try:
            for each in (writer, there_writer):
                # A machine whose power was cut says no more: without this nobody would ever notice.
                each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

            ended: list[str] = []

            async def carry(first: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter, way: str) -> None:
                try:
                    await _copy(first, source, target, lambda size: _count(passage, way, size))
                except OSError:
                    # When one side has said all it had to, the other may leave as it likes.
                    if not ended:
                        raise
                ended.append(way)

            failures: list[Exception] = []
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(carry(said, reader, there_writer, "sent"))
                    group.create_task(carry(b"", there_reader, writer, "received"))
            except* OSError as errors:
                # Raised below: before Python 3.11.4 whatever an except* raises comes out as a group.
                failures += errors.exceptions
            if failures:
                raise OSError(str(failures[0])) from failures[0]
        finally:
            there_writer.close()
        return "closed"

    async def _address(self, name: str, port: int) -> tuple[str, int]:
        if name in self._led:
            return self._led[name], port
        loop = asyncio.get_running_loop()
        found = outside.check_addresses(await loop.run_in_executor(None, self._resolve, name, port))
        # The address that was looked at, not the name again: its next answer may be another one.
        return found[0], port


def _count(passage: Passage, way: str, size: int) -> None:
    setattr(passage, way, getattr(passage, way) + size)


async def _first_words(reader: asyncio.StreamReader, name_in: Callable[[bytes], str | None]) -> tuple[bytes, str]:
    said = b""
    while True:
        more = await reader.read(_CHUNK)
        if not more:
            raise hello.NoName("it ended before it named anybody")
        said += more
        name = name_in(said)
        if name is not None:
            return said, name


async def _copy(
    first: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter, count: Callable[[int], None]
) -> None:
    chunk = first or await source.read(_CHUNK)
    while chunk:
        target.write(chunk)
        await target.drain()
        count(len(chunk))
        chunk = await source.read(_CHUNK)
    try:
        target.write_eof()
    except OSError:
        pass  # it has left already


def _tell(writer: asyncio.StreamWriter, port: int, status: int, passage: Passage) -> None:
    """Let the client say why, as far as its protocol can: a page, or TLS's alert unrecognized_name."""
    body = f"The local cloud's way out: {passage.ended}\n".encode()
    head = f"HTTP/1.1 {status} Egress\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body if port == 80 else bytes([21, 3, 3, 0, 2, 2, 112]))


def resolve(name: str, port: int) -> list[str]:
    """Look a name up as this host does. Raises OSError."""
    found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    # IPv4 first: many hosts have IPv6 addresses that lead nowhere.
    return [str(info[4][0]) for info in sorted(found, key=lambda info: info[0] != socket.AF_INET)]


def read_led(path: Path | None) -> dict[str, str]:
    """Read a file of "ADDRESS NAME..." lines, in the form of /etc/hosts."""
    lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()] if path else []
    return {name.lower(): address for address, *names in filter(None, lines) for name in names}


def main(directory: Path, link: socket.socket) -> int:
    """Serve until the cloud is gone."""
    settings, cloud = settings_from_json((directory / "settings.json").read_text()), read_cloud(directory)
    assert cloud is not None
    led = read_led(settings.egress_hosts)
    with (directory / LOG).open("a") as log:
        "x".encode("idna")  # The resolver needs that codec, which is read from a file when it is first used.
        # It takes apart what machines send: nothing in here may be worth attacking.
        os.setgroups([])
        os.setgid(_NOBODY)
        os.setuid(_NOBODY)
        link.settimeout(_SECONDS_TO_MEET)
        _, handles, _, _ = socket.recv_fds(link, 1, len(PORTS))
        if len(handles) != len(PORTS):
            return 1  # the cloud could not be started
        link.sendall(b"r")
        listeners = [socket.socket(fileno=handle) for handle in handles]
        asyncio.run(Door(cloud.region, resolve, log, led).serve(listeners, link))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))))
