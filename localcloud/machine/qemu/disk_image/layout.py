"""What is on a disk: its partition table (GPT), its EFI partition with a boot loader, its root file system.

Nothing is mounted for it: parts of the disk are copied out by qemu-img, and mtools look into the EFI partition. The
table's format is the UEFI specification's, chapter 5.3.
"""

from __future__ import annotations

import json
import os
import platform
import struct
import tempfile
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support.errors import BadInput
from support.process import run

# The boot loader that firmware starts from a disk that it has never seen, by the machines whose it is (chapter 3.5).
LOADERS = {"x86_64": "BOOTX64.EFI", "aarch64": "BOOTAA64.EFI"}
_SECTOR = 512
_TABLE = struct.Struct("<8sIIIIQQQQ16sQII")
_ENTRY = struct.Struct("<16s16sQQ")
_EFI = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
# As the Discoverable Partitions Specification has them: x86-64 and ARM64.
_ROOTS = {
    uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709"),
    uuid.UUID("b921b045-1df0-41c3-af44-4c6f280d3fae"),
}
_MOST_ENTRIES, _LEAST_ENTRY, _MOST_ENTRY = 256, 128, 1024
_MOST_EFI = 1 << 30
# What is looked at of a partition: the superblocks of XFS (at 0) and ext4 (at 1024) are in it.
_LOOKED = 4096


@dataclass(frozen=True)
class Partition:
    """A partition: its type, and where it lies, in bytes."""

    kind: uuid.UUID
    offset: int
    size: int


@dataclass(frozen=True)
class Layout:
    """What a disk boots by: the partition of its root file system, "xfs" or "ext4", and whose boot loader it has."""

    root: Partition
    file_system: str
    architecture: str


# Returns so many bytes of a disk from an offset on; both are multiples of a sector.
Read = Callable[[int, int], bytes]


def find(disk: Path, size: int) -> Layout:
    """Look at a qcow2 file that header.check has let through, with a disk of `size` bytes on it.

    Raises `image-not-bootable` where it lacks a partition table, a boot loader for UEFI or a root file system, and
    CommandFailed with qemu-img's words.
    """
    with tempfile.TemporaryDirectory() as directory:
        part = Path(directory) / "part"

        def read(offset: int, length: int) -> bytes:
            copy(disk, offset, length, part)
            return part.read_bytes()

        found = partitions(read, size)
        root, file_system = _root(read, found)
        efi = [each for each in found if each.kind == _EFI]
        for each in efi:
            if each.size > _MOST_EFI:
                continue
            copy(disk, each.offset, each.size, part)
            if (architecture := _loader(part)) is not None:
                return Layout(root, file_system, architecture)
    loaders = " or ".join(f"/EFI/BOOT/{name}" for name in LOADERS.values())
    raise _not_bootable(loaders, "an EFI partition without it" if efi else "no EFI partition")


def copy(disk: Path, offset: int, length: int, target: Path) -> None:
    """Copy so many bytes of the disk in a qcow2 file to the file `target`. Raises CommandFailed."""
    inner = {"driver": "qcow2", "file": {"driver": "file", "filename": str(disk.absolute())}}
    part = {"driver": "raw", "offset": offset, "size": length, "file": inner}
    run(["qemu-img", "convert", "-O", "raw", f"json:{json.dumps(part)}", str(target)])


def partitions(read: Read, size: int) -> list[Partition]:
    """Return the partitions of a disk of `size` bytes. Raises `image-not-bootable` where there is no sound table."""
    magic, _, _, _, _, _, _, _, _, _, first, count, length = _TABLE.unpack(
        read(_SECTOR, _SECTOR)[: _TABLE.size] if size >= 2 * _SECTOR else bytes(_TABLE.size)
    )
    if magic != b"EFI PART":
        raise _not_bootable("a partition table (GPT)", "none")
    entries = _rounded(count * length)
    if count > _MOST_ENTRIES or not _LEAST_ENTRY <= length <= _MOST_ENTRY or first * _SECTOR + entries > size:
        raise _not_bootable("a partition table (GPT) within the disk", f"{count} entries of {length} bytes at {first}")
    content = read(first * _SECTOR, entries)
    found = []
    for number in range(count):
        kind, _, begin, end = _ENTRY.unpack_from(content, number * length)
        if not any(kind):
            continue
        if not begin <= end or (end + 1) * _SECTOR > size:
            raise _not_bootable("partitions within the disk", f"one of sectors {begin} to {end}")
        found.append(Partition(uuid.UUID(bytes_le=kind), begin * _SECTOR, (end + 1 - begin) * _SECTOR))
    return found


def _root(read: Read, found: list[Partition]) -> tuple[Partition, str]:
    systems = []
    for each in found:
        if each.kind != _EFI and each.size >= _LOOKED:
            name, label = _file_system(read(each.offset, _LOOKED))
            if name:
                systems.append((each, name, label))
    # Where there are several: what says of itself that it is the root.
    for choose in (
        systems,
        [each for each in systems if each[0].kind in _ROOTS],
        [each for each in systems if each[2] == "/"],
    ):
        if len(choose) == 1:
            return choose[0][0], choose[0][1]
    raise _not_bootable("one root file system, XFS or ext4", f"{len(systems)} of {len(found)} partitions have one")


def _file_system(content: bytes) -> tuple[str, str]:
    """Return the file system in a partition that begins so, and its label; an empty name for any other."""
    if content.startswith(b"XFSB"):
        return "xfs", content[108:120].rstrip(b"\0").decode(errors="replace")
    if content[1080:1082] == b"\x53\xef":
        return "ext4", content[1144:1160].rstrip(b"\0").decode(errors="replace")
    return "", ""


def _loader(partition: Path) -> str | None:
    """Return the architecture whose boot loader is in a FAT file system, this host's before another; None for none."""
    # Whatever is configured for floppies on this host, and however FAT's sizes are rounded.
    environment = {**os.environ, "MTOOLSRC": os.devnull, "MTOOLS_SKIP_CHECK": "1"}
    listed = run(["mdir", "-b", "-i", str(partition), "::/EFI/BOOT"], env=environment, check=False).stdout
    names = {line.strip().rpartition("/")[2].upper() for line in listed.splitlines()}
    found = [architecture for architecture, name in LOADERS.items() if name in names]
    return platform.machine() if platform.machine() in found else next(iter(found), None)


def _rounded(length: int) -> int:
    return -(-length // _SECTOR) * _SECTOR


def _not_bootable(expected: str, found: str) -> BadInput:
    return BadInput(
        "the disk image has nothing to boot by UEFI",
        code="image-not-bootable",
        expected=expected,
        found=found,
        fix="take an image for KVM with UEFI, such as Amazon Linux 2023's",
    )
