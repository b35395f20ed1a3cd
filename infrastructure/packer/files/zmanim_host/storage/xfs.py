"""What the superblock of an XFS file system says: above all, whether mkfs.xfs was cut short before it was done.

mkfs.xfs writes its label first, marked as in progress, and takes the mark away last, when everything else is on the
device. The kernel mounts nothing that has the mark, so nobody ever kept anything there. But xfs_copy and xfs_mdrestore
set the same mark on a copy of a real file system, and a flipped bit looks like it: `doubt` tells them apart.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_SECTOR = 512
_CHECKSUM_AT = 224
# From xfs_dsb in libxfs/xfs_format.h, all big-endian: magic, block size; the log's start; blocks of a group, groups;
# version; log2 of a group's blocks; the mark; inodes, free inodes; the sequence number of the kernel's last write.
_FIELDS = ((0, "4sI"), (48, "Q"), (84, "II"), (100, "H"), (124, "B"), (126, "B"), (128, "QQ"), (240, "Q"))
# The root directory, and the two that belong to a realtime section: what mkfs.xfs itself makes.
_OWN_INODES = 3


@dataclass(frozen=True)
class Superblock:
    """The fields of a superblock that we need; `group_bytes` and `log_start` in bytes."""

    intact: bool
    version: int
    in_progress: bool
    used_inodes: int
    last_write: int
    groups: int
    group_bytes: int
    log_start: int

    def written_by_mkfs(self, offset: int) -> bool:
        """Return whether mkfs.xfs writes into the MiB at `offset`: the head of every group, and of the log."""
        in_group = offset % self.group_bytes
        first_of_group = in_group < MIB or in_group + MIB > self.group_bytes
        return first_of_group or self.log_start - MIB < offset < self.log_start + MIB


def read_superblock(path: Path) -> Superblock | None:
    """Return the superblock at a device's start, or None when there is none of XFS. Raises OSError."""
    with path.open("rb") as device:
        return parse(device.read(_SECTOR))


def parse(sector: bytes) -> Superblock | None:
    """Return what a first sector says, or None when it is no superblock of XFS."""
    if len(sector) < _SECTOR:
        return None
    values = [value for offset, form in _FIELDS for value in struct.unpack_from(f">{form}", sector, offset)]
    magic, block, log, group_blocks, groups, version, group_log, in_progress, inodes, free, last_write = values
    if magic != b"XFSB":
        return None
    return Superblock(
        intact=_checksum(sector) == struct.unpack_from("<I", sector, _CHECKSUM_AT)[0],
        version=version & 0xF,
        in_progress=in_progress != 0,
        used_inodes=inodes - free,
        last_write=last_write,
        groups=groups,
        group_bytes=group_blocks * block,
        # A block's number is its group's, then its place there in `group_log` bits.
        log_start=((log >> group_log) * group_blocks + (log & ((1 << group_log) - 1))) * block,
    )


def _checksum(sector: bytes) -> int:
    """Return the CRC-32C of a superblock, its own field taken as zero."""
    crc = 0xFFFFFFFF
    for byte in sector[:_CHECKSUM_AT] + bytes(4) + sector[_CHECKSUM_AT + 4 :]:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def doubt(superblock: Superblock, size: int) -> str | None:
    """Return why a superblock is not what a cut-short mkfs.xfs left on a device of `size` bytes, or None when it is."""
    if not superblock.in_progress:
        return "it is finished"
    if not superblock.intact or superblock.version != 5:
        return "its superblock's checksum is wrong"
    if superblock.last_write:
        return "it was mounted once"
    if not 0 <= superblock.used_inodes <= _OWN_INODES:
        return "it has files"
    if not 0 < superblock.group_bytes * superblock.groups < size + superblock.group_bytes:
        return "it was made for another size"
    return None
