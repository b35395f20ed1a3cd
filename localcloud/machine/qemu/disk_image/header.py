"""What the header of a qcow2 file says, before any program of QEMU's opens it.

A header may name another file: as what lies below (a backing file), or as where the data are (an external data file).
QEMU opens that as root, whatever file of this host it is. So an image that names one is refused, unopened. The format:
docs/interop/qcow2 in QEMU's sources.
"""

from __future__ import annotations

import struct
from pathlib import Path

from support.errors import BadInput

MAGIC = b"QFI\xfb"
# Amazon Linux's say 25 GiB; what is copied of a disk is only what is written on it, but an entry for each cluster is.
MOST_BYTES = 256 << 30
# Up to the snapshots' offset (version 2), then the features and the length of the header (version 3).
_HEADER, _FEATURES = struct.Struct(">4sIQIIQIIQQIIQ"), struct.Struct(">QQQII")
_EXTENSION = struct.Struct(">II")
_EXTERNAL_DATA = 0x44415441
# How clusters are compressed, and how they are counted: of the bits that a program has to know, those that do no harm.
_KNOWN = 1 << 3 | 1 << 4
_DATA_FILE, _CORRUPT = 1 << 2, 1 << 1
_MOST_HEADER = 1 << 16


def is_qcow2(path: Path) -> bool:
    """Say whether a file begins as a qcow2 disk image does; a file that is not there does not."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def check(path: Path) -> int:
    """Return the size of the disk in a qcow2 file, in bytes, where it is one that QEMU may open.

    Raises `image-unreadable` for what is no qcow2, and `image-refused` for one that names another file, is encrypted,
    wants what is not known here, or is larger than MOST_BYTES.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_HEADER)
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    if len(content) < _HEADER.size or not content.startswith(MAGIC):
        raise _unreadable(path, f"a file that begins with {content[:4].hex() or 'nothing'}")
    _, version, backing_offset, backing_size, _, size, encrypted, *_ = _HEADER.unpack_from(content)
    if version not in (2, 3):
        raise _unreadable(path, f"version {version} of the format")
    length, features = _HEADER.size, 0
    if version == 3:
        if len(content) < _HEADER.size + _FEATURES.size:
            raise _unreadable(path, "half a header")
        features, _, _, _, length = _FEATURES.unpack_from(content, _HEADER.size)
    refused = _refused(features, _extensions(content, length))
    if backing_offset or backing_size:
        refused.append("a backing file, which may be any file of this host")
    if encrypted:
        refused.append("encryption")
    if not 0 < size <= MOST_BYTES:
        refused.append(f"a disk of {size} bytes")
    if refused:
        raise BadInput(
            f"{path} is no disk image to be trusted",
            code="image-refused",
            expected=f"one file with a whole disk in it, of at most {MOST_BYTES >> 30} GiB",
            found=", ".join(refused),
            fix="take the image from its maker again, by the checksum that its maker names",
        )
    return int(size)


def _refused(features: int, extensions: set[int]) -> list[str]:
    found = []
    if features & _DATA_FILE or _EXTERNAL_DATA in extensions:
        found.append("an external data file, which may be any file of this host")
    if features & _CORRUPT:
        found.append("a note that it is corrupt")
    if unknown := features & ~(_KNOWN | _DATA_FILE | _CORRUPT):
        found.append(f"features {unknown:#x}, unknown here, or of an image that was not closed")
    return found


def _extensions(content: bytes, offset: int) -> set[int]:
    """Return the kinds of the header's extensions, as far as `content` goes."""
    kinds = set()
    while offset + _EXTENSION.size <= len(content):
        kind, length = _EXTENSION.unpack_from(content, offset)
        if kind == 0:
            break
        kinds.add(kind)
        offset += _EXTENSION.size + (length + 7) // 8 * 8
    return kinds


def _unreadable(path: Path, found: str) -> BadInput:
    return BadInput(
        f"{path} is no disk image",
        code="image-unreadable",
        expected="a qcow2 file, version 2 or 3",
        found=found,
    )
