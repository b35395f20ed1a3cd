"""What a disk's write cache keeps from its file, and what not: by its class, and by the protocol that QEMU speaks."""

from __future__ import annotations

import os
import signal
import socket
import struct
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.machine.qemu import drives, write_cache
from localcloud.machine.qemu.write_cache import BLOCK, WriteCache

SIZE = 64 * BLOCK
READ, WRITE, DISCONNECT, FLUSH, TRIM, WRITE_ZEROES = 0, 1, 2, 3, 4, 6


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "disk"
    path.write_bytes(b"o" * SIZE)
    return path


@pytest.fixture
def cache(disk: Path) -> Iterator[WriteCache]:
    file = os.open(disk, os.O_RDWR)
    yield WriteCache(file, SIZE, room=32)
    os.close(file)


def test_what_was_written_is_read_at_once_and_is_in_the_file_after_a_flush(cache: WriteCache, disk: Path) -> None:
    cache.write(BLOCK - 10, b"n" * (BLOCK + 20))
    assert cache.read(BLOCK - 12, BLOCK + 24) == b"oo" + b"n" * (BLOCK + 20) + b"oo"
    assert disk.read_bytes() == b"o" * SIZE
    cache.flush()
    assert disk.read_bytes() == b"o" * (BLOCK - 10) + b"n" * (BLOCK + 20) + b"o" * (SIZE - 2 * BLOCK - 10)


def test_a_write_through_takes_nothing_else_with_it(cache: WriteCache, disk: Path) -> None:
    cache.write(0, b"n" * BLOCK)
    cache.write(4 * BLOCK, b"n" * BLOCK, through=True)
    assert disk.read_bytes()[: 5 * BLOCK] == b"o" * 4 * BLOCK + b"n" * BLOCK


def xfs_record(data: int, log_buffer: int = 32 << 10) -> bytes:
    """A log record of XFS's with that many bytes of data: struct xlog_rec_header, as it lies on the disk."""
    header = struct.pack(">4s3I", b"\xfe\xed\xba\xbe", 1, 2, data).ljust(320) + struct.pack(">I", log_buffer)
    return header.ljust(512 * (log_buffer >> 15)) + b"d" * data


@pytest.mark.parametrize("commit", [xfs_record(1024), b"\xc0\x3b\x39\x98".ljust(BLOCK)], ids=["xfs", "ext4"])
@pytest.mark.incident("QEMU's NVMe drops FUA: files that had been synced were gone after a power cut")
def test_a_journal_s_commit_is_written_through(cache: WriteCache, disk: Path, commit: bytes) -> None:
    cache.write(512, commit)
    assert disk.read_bytes()[512 : 512 + len(commit)] == commit


@pytest.mark.parametrize("log_buffer", [32 << 10, 64 << 10])
def test_so_is_the_rest_of_one_that_goes_on_at_the_log_s_beginning(
    cache: WriteCache, disk: Path, log_buffer: int
) -> None:
    record = xfs_record(3 * BLOCK, log_buffer)
    cache.write(60 * BLOCK, record[: 2 * BLOCK])
    cache.write(8 * BLOCK, b"another's".ljust(BLOCK))
    cache.write(2 * BLOCK, record[2 * BLOCK :])
    cache.write(16 * BLOCK, record[2 * BLOCK :])  # of that length, but no rest any more
    content = disk.read_bytes()
    assert content[60 * BLOCK : 62 * BLOCK] + content[2 * BLOCK : 2 * BLOCK + len(record) - 2 * BLOCK] == record
    assert content[8 * BLOCK : 9 * BLOCK] == content[16 * BLOCK : 17 * BLOCK] == b"o" * BLOCK


def test_zeros_are_written_as_holes_and_not_before_the_flush(cache: WriteCache, disk: Path) -> None:
    cache.write(0, b"n" * 8 * BLOCK)
    cache.flush()
    before = disk.stat().st_blocks
    cache.zero(BLOCK // 2, 4 * BLOCK)
    assert disk.read_bytes()[: 8 * BLOCK] == b"n" * 8 * BLOCK
    cache.flush()
    content = disk.read_bytes()
    assert (len(content), content[: 5 * BLOCK]) == (SIZE, b"n" * 2048 + bytes(4 * BLOCK) + b"n" * 2048)
    assert disk.stat().st_blocks < before


@pytest.mark.parametrize("dirty", [1, 16])
def test_a_trim_frees_whole_blocks_of_the_file_and_of_the_cache(cache: WriteCache, disk: Path, dirty: int) -> None:
    before = disk.stat().st_blocks
    cache.write(0, b"n" * dirty * BLOCK)
    cache.discard(100, 8 * BLOCK)
    assert cache.read(BLOCK, 7 * BLOCK) == bytes(7 * BLOCK)
    assert cache.read(0, BLOCK) == b"n" * BLOCK
    assert disk.stat().st_blocks < before


def test_what_does_not_fit_is_written_out(cache: WriteCache, disk: Path) -> None:
    cache.write(0, b"n" * 33 * BLOCK)
    assert disk.read_bytes() == b"n" * 33 * BLOCK + b"o" * 31 * BLOCK


def test_behind_the_file_s_end_there_are_zeros_until_it_is_written(tmp_path: Path) -> None:
    """A qcow2 file grows as its disk fills, and the disk behind NBD has one size."""
    path = tmp_path / "disk"
    path.write_bytes(b"old")
    file = os.open(path, os.O_RDWR)
    cache = WriteCache(file, SIZE)
    assert cache.read(0, SIZE) == b"old".ljust(SIZE, b"\0")
    cache.write(10 * BLOCK, b"n")
    cache.flush()
    os.close(file)
    assert path.read_bytes() == b"old".ljust(10 * BLOCK, b"\0") + b"n".ljust(BLOCK, b"\0")


def test_a_host_without_room_fails_the_flush_and_the_next_one_tries_again(
    cache: WriteCache, disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    cache.write(0, b"n" * BLOCK)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", fail)
        with pytest.raises(OSError, match="No space"):
            cache.flush()
    cache.flush()
    assert disk.read_bytes()[:BLOCK] == b"n" * BLOCK


class Client:
    """What QEMU is to a server: the handshake, then one request at a time."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        assert self.receive(18) == b"NBDMAGICIHAVEOPT\0\x03"
        end.sendall(struct.pack(">I", 3))
        assert self.option(8) == [(1 << 31) + 1]  # structured replies: not here
        assert self.option(7, struct.pack(">IH", 0, 0)) == [3, 3, 1]

    def receive(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            data += self.end.recv(length - len(data)) or pytest.fail("the server has closed")
        return data

    def option(self, number: int, data: bytes = b"") -> list[int]:
        """Send an option and return the types of its replies, to the last."""
        self.end.sendall(struct.pack(">8sII", b"IHAVEOPT", number, len(data)) + data)
        types: list[int] = []
        while not types or types[-1] == 3:
            magic, option, kind, length = struct.unpack(">QIII", self.receive(20))
            assert (magic, option) == (0x3E889045565A9, number)
            self.receive(length)
            types.append(kind)
        return types

    def ask(self, kind: int, offset: int = 0, length: int = 0, data: bytes = b"", *, flags: int = 0) -> int:
        """Make a request and return its error."""
        header = struct.pack(">IHHQQI", 0x25609513, flags, kind, 77, offset, length or len(data))
        self.end.sendall(header + data)
        magic, error, handle = struct.unpack(">IIQ", self.receive(16))
        assert (magic, handle) == (0x67446698, 77)
        return int(error)


@pytest.fixture
def client(cache: WriteCache) -> Iterator[Client]:
    ours, theirs = socket.socketpair()

    def serve() -> None:
        with theirs:
            write_cache.serve(theirs, cache)

    server = threading.Thread(target=serve)
    server.start()
    ours.settimeout(10)
    with ours:
        yield Client(ours)
    server.join(10)


def test_qemu_s_requests_are_carried_out(client: Client, disk: Path) -> None:
    assert client.ask(WRITE, 0, data=b"n" * BLOCK) == 0
    assert client.ask(READ, 0, BLOCK) == 0
    assert client.receive(BLOCK) == b"n" * BLOCK
    assert disk.read_bytes()[:BLOCK] == b"o" * BLOCK
    assert client.ask(FLUSH) == 0
    assert client.ask(WRITE_ZEROES, BLOCK, BLOCK, flags=1) == 0
    assert client.ask(WRITE, 2 * BLOCK, data=b"f" * BLOCK, flags=1) == 0
    assert client.ask(TRIM, 3 * BLOCK, BLOCK) == 0
    expected = b"n" * BLOCK + bytes(BLOCK) + b"f" * BLOCK + bytes(BLOCK)
    assert disk.read_bytes()[: 4 * BLOCK] == expected


def test_a_request_behind_the_end_and_one_that_there_is_not_are_errors(client: Client) -> None:
    assert client.ask(READ, SIZE - 1, 2) == 22
    assert client.ask(9, 0, 1) == 22
    assert client.ask(WRITE, 0, data=b"n") == 0


def test_a_client_that_takes_its_leave_loses_nothing(client: Client, disk: Path) -> None:
    client.ask(WRITE, 0, data=b"n" * BLOCK)
    client.end.sendall(struct.pack(">IHHQQI", 0x25609513, 0, DISCONNECT, 1, 0, 0))
    assert client.end.recv(1) == b""
    assert disk.read_bytes()[:BLOCK] == b"n" * BLOCK


def test_a_client_that_vanishes_loses_what_it_had_not_flushed(client: Client, disk: Path) -> None:
    client.ask(WRITE, 0, data=b"n" * BLOCK)
    client.end.shutdown(socket.SHUT_WR)
    assert client.end.recv(1) == b""
    assert disk.read_bytes() == b"o" * SIZE


def test_a_client_that_speaks_another_protocol_is_not_served(cache: WriteCache) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(b"\0\0\0\3" + b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(ValueError, match="option"):
            write_cache.serve(theirs, cache)


def test_a_killed_server_takes_with_it_what_was_not_flushed(tmp_path: Path, disk: Path) -> None:
    """As a process, which a power cut kills."""
    with socket.socket(socket.AF_UNIX) as listening, socket.socket(socket.AF_UNIX) as end:
        listening.bind(str(tmp_path / "socket"))
        listening.listen(1)
        arguments = drives.command(listening.fileno(), disk, 0)
        with subprocess.Popen(arguments, pass_fds=[listening.fileno()]) as server:
            end.connect(str(tmp_path / "socket"))
            end.settimeout(10)
            client = Client(end)
            client.ask(WRITE, 0, data=b"f" * BLOCK)
            client.ask(FLUSH)
            client.ask(WRITE, BLOCK, data=b"n" * BLOCK)
            server.send_signal(signal.SIGKILL)
    assert disk.read_bytes() == b"f" * BLOCK + b"o" * (SIZE - BLOCK)
