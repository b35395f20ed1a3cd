"""A small root file system's archive, as `rehearse --base` takes it."""

from __future__ import annotations

import io
import platform
import struct
import tarfile
from pathlib import Path

from localcloud.machine.archive import SYSTEMD
from zmanim_ami.rehearsal import base

MACHINES = {"x86_64": 62, "aarch64": 183}
BUNDLE = "etc/pki/tls/certs/ca-bundle.crt"


def elf_program(machine: str) -> bytes:
    """An ELF header, which is all that is looked at, of a program for a machine by uname's name for it."""
    return struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\x02\x01\x01", 3, MACHINES[machine], 1, 0, 64, 0, 0, 64, 56, 0, 0, 0, 0
    )


def archive(
    path: Path, *, without: str = "", machine: str = "", mode: str = "w", last: str = "etc/last", text: str = "x\n"
) -> Path:
    """Write the archive to `path` and return that; its member `last`, the last one, holds `text`."""
    names = {**dict.fromkeys((*base.NEEDED, BUNDLE), b"x\n"), last: text.encode()}
    names[SYSTEMD] = elf_program(machine or platform.machine())
    names.pop(without, None)
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]  # one of its words
        for name, content in names.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), 0o751
            tar.addfile(member, io.BytesIO(content))
    return path
