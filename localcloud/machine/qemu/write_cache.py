"""A disk with a write cache: a server of a network block device (NBD) in front of a file, for one QEMU.

What a guest writes stays in this process until the guest flushes its disk. Killed together with QEMU it is a power cut:
what was flushed is in the file, what was not is gone. QEMU's own caches lose next to nothing then, since the host keeps
what they have written.

It knows one thing that such servers don't. QEMU's NVMe controllers drop the bit by which a guest has a single write
reach the medium (FUA: hw/nvme/ctrl.c of QEMU 7.2, and of 2025), while Linux writes the commits of XFS's and ext4's
journals by that bit, with no flush after them: behind a cache that goes by flushes alone, files that were synced are
lost. So what begins like a block of such a journal is written through. A disk may write more than it must.

    python3 -I -S write_cache.py DESCRIPTOR FILE SIZE

DESCRIPTOR is a listening socket's, SIZE in bytes, 0 for the file's own. It serves one connection and ends with it. Of
the standard library alone, because it is run as a script, in as little time as may be. The protocol: doc/proto.md of
the NetworkBlockDevice project.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

BLOCK = 4096
# As much as disks have. What does not fit is written out, as by them.
ROOM = (64 << 20) // BLOCK
_ZEROS = bytes(BLOCK)
_KEEP_SIZE_AND_PUNCH_HOLE = 0x01 | 0x02
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_longlong, ctypes.c_longlong]

# XLOG_HEADER_MAGIC_NUM and JBD2_MAGIC_NUMBER of Linux's fs/xfs and fs/jbd2, both big-endian.
_XFS, _JBD2 = b"\xfe\xed\xba\xbe", b"\xc0\x3b\x39\x98"
_SECTOR, _XFS_HEADER_HOLDS = 512, 32 << 10

_GREETING = struct.pack(">8s8sH", b"NBDMAGIC", b"IHAVEOPT", 1 | 2)  # fixed newstyle, no zeroes
_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_ABORT, _INFO, _GO = 2, 6, 7
_ACK, _IS_INFO, _UNSUPPORTED = 1, 3, (1 << 31) + 1
# Flags are there; flush, FUA, trim, write zeroes.
_FLAGS = 1 | 4 | 8 | 32 | 64
_REQUEST = struct.Struct(">IHHQQI")
_REQUEST_MAGIC, _REPLY_MAGIC = 0x25609513, 0x67446698
_READ, _WRITE, _DISCONNECT, _FLUSH, _TRIM, _WRITE_ZEROES = 0, 1, 2, 3, 4, 6
_FUA = 1
# QEMU asks for no more at once.
_MOST = 32 << 20
_ERRORS = {errno.EPERM, errno.EIO, errno.ENOMEM, errno.EINVAL, errno.ENOSPC}


class WriteCache:
    """The open file `file` of `size` bytes, whole blocks, and what is not in it yet. Behind its end it reads as zeros.

    All methods take offsets and lengths in bytes and raise OSError.
    """

    def __init__(self, file: int, size: int, room: int = ROOM) -> None:
        self.size = size
        self._file = file
        self._room = room
        self._dirty: dict[int, bytes] = {}
        self._journal_rest = 0

    def read(self, offset: int, length: int) -> bytes:
        """Return what was written there last, flushed or not."""
        data = self._stored(offset, length)
        if self._dirty:
            for block, start, end in _blocks(offset, length):
                if (cached := self._dirty.get(block)) is not None:
                    at = block * BLOCK + start - offset
                    data[at : at + end - start] = cached[start:end]
        return bytes(data)

    def write(self, offset: int, data: bytes, *, through: bool = False) -> None:
        """Keep data until the next flush; put them into the file at once if `through`, and if they are a journal's."""
        through = self._is_journal(data) or through
        at = 0
        for block, start, end in _blocks(offset, len(data)):
            part = data[at : at + end - start]
            at += end - start
            if len(part) < BLOCK:
                whole = self._block(block)
                part = whole[:start] + part + whole[end:]
            self._dirty[block] = part
        if through:
            self._write_out(sorted(block for block, _, _ in _blocks(offset, len(data))))
        self._make_room()

    def zero(self, offset: int, length: int, *, through: bool = False) -> None:
        """Write zeros; whole blocks of them become holes in the file."""
        for block, start, end in _blocks(offset, length):
            whole = _ZEROS if end - start == BLOCK else self._block(block)
            self._dirty[block] = whole if whole is _ZEROS else whole[:start] + bytes(end - start) + whole[end:]
            self._make_room()
        if through:
            self.flush()

    def discard(self, offset: int, length: int) -> None:
        """Drop what is there, at once: a file system trims what its journal has freed before."""
        first, last = -(-offset // BLOCK), (offset + length) // BLOCK
        if len(self._dirty) < last - first:
            self._dirty = {block: data for block, data in self._dirty.items() if not first <= block < last}
        else:
            for block in range(first, last):
                self._dirty.pop(block, None)
        if first < last:
            self._punch(first, last - first)

    def flush(self) -> None:
        """Put everything into the file."""
        self._write_out(sorted(self._dirty))
        os.fdatasync(self._file)

    def _write_out(self, blocks: list[int]) -> None:
        for run in self._runs(blocks):
            if self._dirty[run[0]] is _ZEROS:
                self._punch(run[0], len(run))
            else:
                _write_all(self._file, b"".join(self._dirty[block] for block in run), run[0] * BLOCK)
            # After it is there: where the host's disk is full, the next flush tries again.
            for block in run:
                del self._dirty[block]

    def _runs(self, blocks: list[int]) -> Iterator[list[int]]:
        """Split ascending blocks into those that lie side by side and go into the file, or out of it, at once."""
        run: list[int] = []
        for block in blocks:
            like = bool(run) and (self._dirty[block] is _ZEROS) == (self._dirty[run[0]] is _ZEROS)
            if run and not (like and block == run[-1] + 1):
                yield run
                run = []
            run.append(block)
        if run:
            yield run

    def _make_room(self) -> None:
        if len(self._dirty) > self._room:
            self._write_out(sorted(self._dirty))

    def _is_journal(self, data: bytes) -> bool:
        """Say whether that is a journal's write, or what is left of one that was split where its log begins anew."""
        if data[:4] == _XFS and len(data) >= _SECTOR:
            (length,), (log_buffer,) = struct.unpack_from(">I", data, 12), struct.unpack_from(">I", data, 320)
            headers = max(1, -(-log_buffer // _XFS_HEADER_HOLDS))
            self._journal_rest = headers * _SECTOR + length - len(data)
            return True
        if self._journal_rest > 0 and len(data) == self._journal_rest:
            self._journal_rest = 0
            return True
        return data[:4] == _JBD2

    def _block(self, block: int) -> bytes:
        return self._dirty.get(block) or bytes(self._stored(block * BLOCK, BLOCK))

    def _stored(self, offset: int, length: int) -> bytearray:
        data = bytearray(length)
        at = 0
        while at < length:
            count = os.preadv(self._file, [memoryview(data)[at:]], offset + at)
            if not count:
                break  # the file ends here
            at += count
        return data

    def _punch(self, block: int, count: int) -> None:
        offset, length = block * BLOCK, count * BLOCK
        if _LIBC.fallocate(self._file, _KEEP_SIZE_AND_PUNCH_HOLE, offset, length) == 0:
            return
        if (number := ctypes.get_errno()) not in {errno.EOPNOTSUPP, errno.ENODEV, errno.EINVAL}:
            raise OSError(number, os.strerror(number))
        for each in range(block, block + count):  # a file system without holes
            _write_all(self._file, _ZEROS, each * BLOCK)


def _blocks(offset: int, length: int) -> Iterator[tuple[int, int, int]]:
    """Split a range into blocks: the number of each, and where the range begins and ends in it."""
    end = offset + length
    while offset < end:
        block, start = divmod(offset, BLOCK)
        stop = min(BLOCK, start + end - offset)
        yield block, start, stop
        offset += stop - start


def _write_all(file: int, data: bytes, offset: int) -> None:
    rest = memoryview(data)
    while rest:
        count = os.pwrite(file, rest, offset)
        rest, offset = rest[count:], offset + count


def serve(end: socket.socket, cache: WriteCache) -> None:
    """Serve one client to its end. What it had not flushed is kept if it takes its leave, and gone if it just vanishes.

    Raises ValueError for what is none of the protocol.
    """
    try:
        if _negotiate(end, cache.size):
            _transmit(end, cache)
    except (EOFError, ConnectionError):
        pass


def _negotiate(end: socket.socket, size: int) -> bool:
    """Do the handshake; say whether the client goes on to transmission."""
    end.sendall(_GREETING)
    _receive(end, 4)
    while True:
        magic, option, length = _OPTION.unpack(_receive(end, _OPTION.size))
        if magic != b"IHAVEOPT" or length > BLOCK:
            raise ValueError("not an option of NBD's")
        _receive(end, length)
        if option == _ABORT:
            _answer(end, option, _ACK)
            return False
        if option not in {_INFO, _GO}:
            _answer(end, option, _UNSUPPORTED)
            continue
        _answer(end, option, _IS_INFO, struct.pack(">HQH", 0, size, _FLAGS))
        _answer(end, option, _IS_INFO, struct.pack(">HIII", 3, 1, BLOCK, _MOST))
        _answer(end, option, _ACK)
        if option == _GO:
            return True


def _answer(end: socket.socket, option: int, kind: int, data: bytes = b"") -> None:
    end.sendall(_OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, kind, len(data)) + data)


def _transmit(end: socket.socket, cache: WriteCache) -> None:
    while True:
        magic, flags, kind, handle, offset, length = _REQUEST.unpack(_receive(end, _REQUEST.size))
        if magic != _REQUEST_MAGIC or (kind in {_READ, _WRITE} and length > _MOST):
            raise ValueError("not a request of NBD's")
        data = _receive(end, length) if kind == _WRITE else b""
        if kind == _DISCONNECT:
            cache.flush()
            return
        error, answer = 0, b""
        try:
            if kind != _FLUSH and offset + length > cache.size:
                raise OSError(errno.EINVAL, "behind the end of the disk")
            if kind == _READ:
                answer = cache.read(offset, length)
            else:
                _change(cache, kind, offset, data or length, through=bool(flags & _FUA))
        except OSError as failure:
            error = failure.errno if failure.errno in _ERRORS else errno.EIO
        end.sendall(struct.pack(">IIQ", _REPLY_MAGIC, error, handle) + answer)


def _change(cache: WriteCache, kind: int, offset: int, what: bytes | int, *, through: bool) -> None:
    """Carry out a request to change the disk; `what` is the data, or how many bytes it is about."""
    if kind == _FLUSH:
        cache.flush()
    elif isinstance(what, bytes):
        cache.write(offset, what, through=through)
    elif kind == _TRIM:
        cache.discard(offset, what)
    elif kind == _WRITE_ZEROES:
        cache.zero(offset, what, through=through)
    else:
        raise OSError(errno.EINVAL, "no such request")


def _receive(end: socket.socket, length: int) -> bytes:
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        count = end.recv_into(rest)
        if not count:
            raise EOFError
        rest = rest[count:]
    return bytes(data)


def main(descriptor: int, path: str, size: int) -> None:
    """Serve the file to whom connects first."""
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    with socket.socket(fileno=descriptor) as listening:
        end = listening.accept()[0]
    with end:
        serve(end, WriteCache(file, size or os.lseek(file, 0, os.SEEK_END)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
