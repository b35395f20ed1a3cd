"""A program for arm64 that needs nothing: whether one runs shows what emulates it."""

from __future__ import annotations


def exit_42() -> bytes:
    """Return the smallest program there is for linux/arm64: exit(42)."""
    code = bytes.fromhex("400580d2a80b80d2010000d4")  # mov x0, #42; mov x8, #93; svc #0
    header = bytes.fromhex("7f454c4602010100000000000000000002 00b700 01000000".replace(" ", ""))
    entry = 0x400078
    header += entry.to_bytes(8, "little") + (64).to_bytes(8, "little") + bytes(8)
    header += bytes(4) + (64).to_bytes(2, "little") + (56).to_bytes(2, "little") + (1).to_bytes(2, "little") + bytes(6)
    segment = (1).to_bytes(4, "little") + (5).to_bytes(4, "little") + bytes(8)
    segment += (0x400000).to_bytes(8, "little") * 2 + (120 + len(code)).to_bytes(8, "little") * 2
    segment += (0x1000).to_bytes(8, "little")
    return header + segment + code
