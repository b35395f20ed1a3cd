"""Firmware (UEFI) for machines that boot a disk image by its own boot loader: Debian's OVMF, and AAVMF for ARM64."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.host.requirements import DISK_IMAGE_PROGRAMS
from support.errors import HostLacks

# In a directory that a machine boots from: whose boot loader the disk has, where it has one.
ARCHITECTURE = "architecture"
_VARIABLES = "variables"


@dataclass(frozen=True)
class Firmware:
    """How QEMU runs a machine with firmware: its program and its kind of machine, the firmware and what it keeps."""

    program: str
    program_package: str
    machine: str
    code: Path
    variables: Path
    package: str

    def arguments(self, boot: Path) -> list[str]:
        """Return the words that have a machine start by firmware, with the variables that its `boot` directory keeps.

        Raises OSError where they can't be made.
        """
        kept = boot / _VARIABLES
        if not kept.exists():
            shutil.copyfile(self.variables, kept)
        words = ["-machine", f"{self.machine},pflash0=firmware,pflash1=variables"]
        for name, path, read_only in (("firmware", self.code, True), ("variables", kept, False)):
            node = {"driver": "raw", "node-name": name, "read-only": read_only}
            words += ["-blockdev", json.dumps({**node, "file": {"driver": "file", "filename": str(path)}})]
        return words


# By the name that uname has for the machine. Of both files Debian has others, which want Secure Boot: not these.
FIRMWARE = {
    "x86_64": Firmware(
        "qemu-system-x86_64",
        "qemu-system-x86",
        "q35",
        Path("/usr/share/OVMF/OVMF_CODE_4M.fd"),
        Path("/usr/share/OVMF/OVMF_VARS_4M.fd"),
        "ovmf",
    ),
    "aarch64": Firmware(
        "qemu-system-aarch64",
        "qemu-system-arm",
        "virt",
        Path("/usr/share/AAVMF/AAVMF_CODE.fd"),
        Path("/usr/share/AAVMF/AAVMF_VARS.fd"),
        "qemu-efi-aarch64",
    ),
}


def of(boot: Path) -> Firmware | None:
    """Return the firmware that a machine which boots from this directory needs; None where a kernel is given to it."""
    path = boot / ARCHITECTURE
    return FIRMWARE[path.read_text().strip()] if path.exists() else None


def check(architecture: str, search: str | None = None) -> None:
    """Raise `programs-missing` where this host lacks what makes and boots disk images of that architecture.

    Programs are looked for in PATH and the directories of administration programs, unless `search` is given.
    """
    wanted = FIRMWARE[architecture]
    files = dict.fromkeys((wanted.code, wanted.variables), wanted.package)
    check_programs({**DISK_IMAGE_PROGRAMS, wanted.program: wanted.program_package}, files, search=search)


def check_programs(
    programs: Mapping[str, str], files: Mapping[Path, str] | None = None, *, search: str | None = None
) -> None:
    """Raise `programs-missing` where this host lacks one of these programs or files, each with its Debian package."""
    if search is None:
        search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = {program: package for program, package in programs.items() if not shutil.which(program, path=search)}
    missing |= {str(path): package for path, package in (files or {}).items() if not path.exists()}
    if missing:
        raise HostLacks(
            "this host lacks what machines of a disk image are made of",
            code="programs-missing",
            expected=", ".join(sorted(missing)),
            found="none of these",
            fix=f"apt-get install --yes {' '.join(sorted(set(missing.values())))}",
        )


def is_emulated(architecture: str) -> bool:
    """Say whether this host's processor is another one, so that nothing but emulation runs such a machine."""
    return architecture != platform.machine()
