"""The egress proxy: `python -m localcloud.net.egress STATE_DIRECTORY LINK`, which control.py starts beside a cloud.

It runs in the host's network namespace without any rights, and listens on no address of the host: the cloud's server
makes the listening sockets in its own namespace and hands them over through LINK, one end of a socket pair. When either
end closes, the other knows that it is alone. Machines need no proxy settings: every name that is not the cloud's leads
to the address that is listened on, and a client's first bytes tell which name it was (server_name.py). It is looked up
as the host looks names up, and the bytes go through as they are.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TextIO

from localcloud.net import outside, server_name
from localcloud.net.outside import PORTS, Refused
from localcloud.net.server_name import NoName
from localcloud.settings import read_cloud, settings_from_json
from support.errors import Error

LOG = "egress.jsonl"
_SECONDS_TO_NAME = 10.0
_SECONDS_TO_CONNECT = 10.0
_SECONDS_TO_MEET = 30.0
_CHUNK = 1 << 16
_NOBODY = 65534
# Addresses of a name. Raises OSError when it has none.
Resolve = Callable[[str, int], Sequence[str]]
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Connection:
    """A machine's connection to the internet: its address, the name and port, bytes each way, seconds, how it ended.

    `ended` is "closed", or begins with "refused: " or "failed: ".
    """

    source: str
    port: int
    name: str = ""
    sent: int = 0
    received: int = 0
    seconds: float = 0.0
    ended: str = ""


def connections(directory: Path) -> list[Connection]:
    """Return the ended connections out of a cloud, by its state directory; none for a cloud without egress."""
    try:
        lines = (directory / LOG).read_text().splitlines()
    except FileNotFoundError:
        return []
    return [Connection(**json.loads(line)) for line in lines]


def hand_over(address: str, link: socket.socket, ports: Sequence[int] = PORTS) -> None:
    """Make the listening sockets in this network namespace and give them to the process at the other end of `link`.

    Raises `cloud-failed` when it does not take them.
    """
    listeners = [socket.create_server((address, port), backlog=128) for port in ports]
    link.settimeout(_SECONDS_TO_MEET)
    try:
        socket.send_fds(link, [b"x"], [listener.fileno() for listener in listeners])
        failure = "" if link.recv(1) else "it ended"
    except OSError as error:
        failure = str(error)
    finally:
        for listener in listeners:
            listener.close()
    if failure:
        raise Error(
            "the egress proxy did not start", code="cloud-failed", expected="a proxy on the host", found=failure
        )
    link.settimeout(None)


class Proxy:
    """Takes connections, one coroutine each. `resolve` looks names up, `log` gets a line for each that has ended.

    Names in `overrides` lead to the address given there, whatever it is; nothing else about them is different.
    `connect` opens a connection to an address and port.
    """

    def __init__(
        self,
        region: str,
        resolve: Resolve,
        log: TextIO,
        overrides: Mapping[str, str] | None = None,
        *,
        connect: Callable[[str, int], Awaitable[Streams]] = asyncio.open_connection,
        seconds_to_name: float = _SECONDS_TO_NAME,
    ) -> None:
        self._region = region
        self._resolve = resolve
        self._log = log
        self._overrides = dict(overrides or {})
        self._connect = connect
        self._seconds_to_name = seconds_to_name

    async def serve(self, listeners: Sequence[socket.socket], until: socket.socket) -> None:
        """Serve until the other end of `until` is closed. The listeners are those of PORTS, in order."""
        servers = [
            await asyncio.start_server(partial(self.take, port), sock=listener)
            for listener, port in zip(listeners, PORTS, strict=True)
        ]
        until.setblocking(False)
        await asyncio.get_running_loop().sock_recv(until, 1)
        for server in servers:
            server.close()

    async def take(self, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Connect one client to the server that it names, or refuse it, and log it."""
        began = time.monotonic()
        connection = Connection(str((writer.get_extra_info("peername") or ("gone",))[0]), port)
        connection.ended = "failed: the cloud ended"
        try:
            await self._relay(connection, reader, writer)
            connection.ended = "closed"
        except (NoName, Refused) as reason:
            connection.ended = f"refused: {reason}"
            _send_reason(writer, 403, connection)
        except (OSError, TimeoutError) as error:
            connection.ended = f"failed: {str(error) or type(error).__name__}"
            if not connection.received:
                _send_reason(writer, 502, connection)
        finally:
            writer.close()
            connection.seconds = round(time.monotonic() - began, 3)
            self._log.write(json.dumps(asdict(connection)) + "\n")
            self._log.flush()

    async def _relay(self, connection: Connection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self._seconds_to_name):
            received, requested = await _read_name(reader, connection.port)
        # People read this: a name that is none could hold anything, and as much of it as a client likes.
        connection.name = requested[:253] if requested.isprintable() else ""
        name = outside.check_name(requested, self._region)
        async with asyncio.timeout(_SECONDS_TO_CONNECT):
            address = await self.address_of(name, connection.port)
            server_reader, server_writer = await self._connect(address, connection.port)
        ended: list[str] = []

        async def carry(first: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter, counter: str) -> None:
            try:
                await copy(first, source, target, connection, counter)
            except OSError:
                # When one side has sent all it had to, the other may leave as it likes.
                if not ended:
                    raise
            ended.append(counter)

        both = (carry(received, reader, server_writer, "sent"), carry(b"", server_reader, writer, "received"))
        tasks = [asyncio.create_task(each) for each in both]
        try:
            for each in (writer, server_writer):
                # A machine whose power was cut sends nothing more: without this nobody would ever notice.
                each.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            server_writer.close()

    async def address_of(self, name: str, port: int) -> str:
        """Return the address to connect to for a name. Raises Refused and OSError."""
        if name in self._overrides:
            return self._overrides[name]
        addresses = await asyncio.get_running_loop().run_in_executor(None, self._resolve, name, port)
        # The address that was checked, not the name again: its next answer may be another one.
        return outside.check_addresses(addresses)[0]


async def _read_name(reader: asyncio.StreamReader, port: int) -> tuple[bytes, str]:
    name_in = server_name.host if port == 80 else server_name.server_name
    received = b""
    while more := await reader.read(_CHUNK):
        received += more
        name = name_in(received)
        if name is not None:
            return received, name
    raise NoName("it ended before it named anybody")


async def copy(
    first: bytes, source: asyncio.StreamReader, target: asyncio.StreamWriter, connection: Connection, counter: str
) -> None:
    """Copy `first` and all that comes from `source` to `target`, counted in the field `counter` of `connection`."""
    chunk = first or await source.read(_CHUNK)
    while chunk:
        target.write(chunk)
        await target.drain()
        setattr(connection, counter, getattr(connection, counter) + len(chunk))
        chunk = await source.read(_CHUNK)
    with suppress(OSError):  # it has left already
        target.write_eof()


def _send_reason(writer: asyncio.StreamWriter, status: int, connection: Connection) -> None:
    """Let the client know why, as far as its protocol can: a page, or TLS's alert unrecognized_name."""
    body = f"The local cloud's egress proxy: {connection.ended}\n".encode()
    head = f"HTTP/1.1 {status} Egress\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    writer.write(head.encode() + body if connection.port == 80 else bytes([21, 3, 3, 0, 2, 2, 112]))


def resolve(name: str, port: int) -> list[str]:
    """Look a name up as this host does. Raises OSError."""
    infos = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
    # IPv4 first: many hosts have IPv6 addresses that lead nowhere.
    return [str(info[4][0]) for info in sorted(infos, key=lambda info: info[0] != socket.AF_INET)]


def read_overrides(path: Path | None) -> dict[str, str]:
    """Read a file of "ADDRESS NAME..." lines, in the form of /etc/hosts."""
    lines = [line.partition("#")[0].split() for line in path.read_text().splitlines()] if path else []
    return {name.lower(): address for address, *names in filter(None, lines) for name in names}


def main(directory: Path, link: socket.socket) -> int:
    """Serve until the cloud is gone."""
    settings, cloud = settings_from_json((directory / "settings.json").read_text()), read_cloud(directory)
    assert cloud is not None
    overrides = read_overrides(settings.egress_hosts)
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
        asyncio.run(Proxy(cloud.region, resolve, log, overrides).serve(listeners, link))
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), socket.socket(fileno=int(sys.argv[2]))))
