"""Which machine a program is for, read from its ELF headers."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from support.elf import Elf, NotElf, read_elf

AARCH64, X86_64, RISCV = 183, 62, 243
LOAD, INTERP, NOTE = 1, 3, 4


def elf_bytes(machine: int, segments: list[int]) -> bytes:
    """A 64-bit little-endian ELF header and its program headers; nothing behind them."""
    ident = b"\x7fELF\x02\x01\x01" + bytes(9)
    header = struct.pack("<16sHHIQQQIHHHHHH", ident, 2, machine, 1, 0x10000, 64, 0, 0, 64, 56, len(segments), 0, 0, 0)
    return header + b"".join(struct.pack("<IIQQQQQQ", kind, 5, 0, 0, 0, 0, 0, 8) for kind in segments)


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (elf_bytes(AARCH64, [LOAD, NOTE]), Elf("aarch64", static=True)),
        (elf_bytes(AARCH64, [LOAD, INTERP]), Elf("aarch64", static=False)),
        (elf_bytes(AARCH64, [INTERP, LOAD]), Elf("aarch64", static=False)),
        (elf_bytes(X86_64, [LOAD]), Elf("x86_64", static=True)),
        (elf_bytes(RISCV, [LOAD]), Elf("machine 243", static=True)),
    ],
)
def test_machine_and_linking_are_read_from_the_headers(tmp_path: Path, content: bytes, expected: Elf) -> None:
    assert read_elf(written(tmp_path / "program", content)) == expected


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "empty"),
        (b"#!/bin/sh\n", "begins with b'#!/b'"),
        (elf_bytes(AARCH64, [LOAD])[:40], "cut short"),
        (elf_bytes(AARCH64, [LOAD, INTERP])[:-20], "cut short"),
        (b"\x7fELF\x01\x01" + bytes(58), "not 64-bit"),
        (b"\x7fELF\x02\x02" + bytes(58), "not 64-bit little-endian"),
        (elf_bytes(AARCH64, [])[:54] + bytes(10), "cut short"),
    ],
)
def test_what_is_no_elf_program_is_told_apart(tmp_path: Path, content: bytes, reason: str) -> None:
    with pytest.raises(NotElf, match=reason):
        read_elf(written(tmp_path / "program", content))
