"""Writing a partition table (GPT), as the UEFI specification has it."""

from __future__ import annotations

import os
import struct
import uuid
import zlib
from collections.abc import Sequence
from dataclasses import dataclass

SECTOR = 512
EFI = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
LINUX = uuid.UUID("0fc63daf-8483-4772-8e79-3d69d8477de4")
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")
BIOS = uuid.UUID("21686148-6449-6e6f-744e-656564454649")
_ENTRIES, _ENTRY = 128, 128


@dataclass(frozen=True)
class Part:
    """A partition of a disk to be made: its number, its type, its first sector and its last one."""

    number: int
    kind: uuid.UUID
    first: int
    last: int


def write_table(handle: int, size: int, parts: Sequence[Part], begin: int = 0) -> None:
    """Write a partition table (GPT) at both ends of a disk of `size` bytes, which begins at `begin` of the file."""
    entries = bytearray(_ENTRIES * _ENTRY)
    for part in parts:
        entry = struct.pack("<16s16sQQ", part.kind.bytes_le, uuid.uuid4().bytes_le, part.first, part.last)
        entries[(part.number - 1) * _ENTRY : (part.number - 1) * _ENTRY + len(entry)] = entry
    last, identity = size // SECTOR - 1, uuid.uuid4().bytes_le
    table = len(entries) // SECTOR

    def header(own: int, other: int, at: int) -> bytes:
        values = [own, other, 2 + table, last - table - 1, identity, at, _ENTRIES, _ENTRY, zlib.crc32(entries)]
        unchecked = struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x10000, 92, 0, 0, *values)
        return unchecked[:16] + struct.pack("<I", zlib.crc32(unchecked)) + unchecked[20:]

    protective = struct.pack("<B3sB3sII", 0, b"\0\2\0", 0xEE, b"\xff\xff\xff", 1, min(last, 0xFFFFFFFF))
    os.pwrite(handle, bytes(446) + protective + bytes(48) + b"\x55\xaa", begin)
    os.pwrite(handle, header(1, last, 2), begin + SECTOR)
    os.pwrite(handle, bytes(entries), begin + 2 * SECTOR)
    os.pwrite(handle, bytes(entries), begin + (last - table) * SECTOR)
    os.pwrite(handle, header(last, 1, last - table), begin + last * SECTOR)
