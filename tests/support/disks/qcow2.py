"""Headers of qcow2 files (docs/interop/qcow2 in QEMU's sources), and files that stand for images with partitions."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

from tests.support.disks.partition_table import SECTOR, Part, write_table

# Where the disk begins in the files that `image` makes.
DATA = 65536
# In the place of qemu-img, which would make the same disk of another file: the last two words are the files.
QEMU_IMG = 'while [ $# -gt 2 ]; do shift; done; cp "$1" "$2"'


def copy(disk: Path, offset: int, length: int, target: Path) -> None:
    """Do what layout.copy has qemu-img do, with a file that `image` has made."""
    with disk.open("rb") as file:
        file.seek(DATA + offset)
        target.write_bytes(file.read(length))


def header(
    *,
    version: int = 3,
    size: int = 1 << 30,
    backing: str = "",
    encryption: int = 0,
    features: int = 0,
    extensions: Sequence[tuple[int, bytes]] = (),
) -> bytes:
    """Return the header of a qcow2 file."""
    more = b"".join(
        struct.pack(">II", kind, len(content)) + content + bytes(-len(content) % 8) for kind, content in extensions
    )
    more += bytes(8)
    offset = 104 + len(more) if backing else 0
    fields = (b"QFI\xfb", version, offset, len(backing), 16, size, encryption, 1, 1 << 17, 1 << 16, 1, 0, 0)
    known = struct.pack(">4sIQIIQIIQQIIQ", *fields)
    known += struct.pack(">QQQII", features, 0, 0, 4, 104) if version == 3 else b""
    return known + more + backing.encode()


def image(path: Path, parts: Sequence[tuple[Part, bytes]], size: int = 32 << 20) -> Path:
    """Write an image with a disk of `size` bytes with these partitions on it, each with what it begins with."""
    with path.open("w+b") as file:
        file.write(header(size=size))
        file.truncate(DATA + size)
        file.flush()
        write_table(file.fileno(), size, [part for part, _ in parts], DATA)
        for part, content in parts:
            file.seek(DATA + part.first * SECTOR)
            file.write(content)
    return path
