"""The few facts of an ELF program that decide whether a machine can run it.

Read here rather than by readelf or file(1): a host that builds for AWS has neither.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

# e_machine of the architectures that matter here, by the names that uname gives them.
_MACHINES = {62: "x86_64", 183: "aarch64"}
_PT_INTERP = 3
_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")


class NotElf(Exception):
    """The file is not a 64-bit little-endian ELF program, or is cut short; what it is instead is the message."""


@dataclass(frozen=True)
class Elf:
    """A 64-bit little-endian ELF program."""

    machine: str  # "aarch64", "x86_64", or "machine 40" for one without a name here
    static: bool  # it asks for no interpreter (the dynamic linker), so it runs on any distribution


def read_elf(path: Path) -> Elf:
    """Read the headers of the program `path`.

    Raises NotElf, and OSError when the file can't be read.
    """
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if header[:4] != b"\x7fELF":
            raise NotElf(f"a file that begins with {header[:4]!r}" if header else "an empty file")
        if len(header) < _HEADER.size or header[4:6] != b"\x02\x01":
            raise NotElf("an ELF file that is cut short, or not 64-bit little-endian")
        _, _, machine, _, _, offset, _, _, _, entry_size, entries, _, _, _ = _HEADER.unpack(header)
        file.seek(offset)
        table = file.read(entry_size * entries)
    if entry_size < 4 or len(table) < entry_size * entries:
        raise NotElf("an ELF file that is cut short")
    kinds = [int.from_bytes(table[at : at + 4], "little") for at in range(0, len(table), entry_size)]
    return Elf(_MACHINES.get(machine, f"machine {machine}"), _PT_INTERP not in kinds)
