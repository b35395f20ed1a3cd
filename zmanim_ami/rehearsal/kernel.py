"""A kernel for machines that have one of their own, from Debian, and the disks that they boot from.

Cached apart from the stand-in: machines on the host's kernel need neither. It is Debian's kernel for clouds, of the
suite that the stand-in is made of: of the line that Amazon Linux 2023 has, 6.12, but Debian's configuration and build.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path

from localcloud.host import binfmt, requirements
from localcloud.host.contained import contained
from localcloud.machine import debian, qemu
from localcloud.machine.qemu import base_disk
from localcloud.machine.qemu.base_disk import Kernel
from localcloud.settings import QEMU
from support.cache import cached_directory
from support.digest import file_sha256, files_below, text_sha256, tree_sha256
from support.errors import Error, HostLacks
from support.process import CommandFailed, run
from support.progress import step

PACKAGE = "linux-image-cloud-amd64"
_QEMU = Path(qemu.__file__).parent
_IMAGE, _MODULES = "vmlinuz", "modules"


def check_host() -> None:
    """Raise `programs-missing` or `architecture-missing` where this host can have no such machines."""
    check_architecture(QEMU)
    requirements.check_programs({"arm64"}, machines=QEMU)


def check_architecture(machines: str) -> None:
    """Raise `architecture-missing` where this host's processor can have no machines of the kind `machines`."""
    if machines == QEMU and platform.machine() != "x86_64":
        raise HostLacks(
            "machines with a kernel of their own are for x86-64 hosts, so far",
            code="architecture-missing",
            expected="x86_64",
            found=platform.machine(),
            fix="--machines nspawn",
        )


def base_disk_of(tree: Path, cache: Path) -> Path:
    """Make the disk of a base image's tree, with a kernel, in `cache`, or find it there; return its directory.

    Raises `kernel-not-downloaded` and what machine.qemu.base_disk.make raises.
    """
    kernel = fetch(cache)
    made_by = tree_sha256(_QEMU, [_QEMU / "base_disk.py", *files_below(_QEMU / "guest")])
    emulator = shipped_emulator()
    emulated_by = file_sha256(emulator) if emulator else ""
    digest = text_sha256(str(tree), kernel.modules.name, file_sha256(kernel.image), emulated_by, made_by)

    def make(entry: Path) -> None:
        with step("the disk of machines with a kernel of their own"):
            base_disk.make(tree, kernel, entry, emulator=emulator)

    return cached_directory(cache, "disk", digest, make)


def shipped_emulator() -> Path | None:
    """Return what runs the linux/arm64 programs that ship, where this host's processor can't."""
    return binfmt.INTERPRETER if binfmt.needed({"arm64"}) and binfmt.INTERPRETER.exists() else None


def fetch(cache: Path) -> Kernel:
    """Fetch the kernel from Debian to `cache`, or find it there. Raises `kernel-not-downloaded`."""
    digest = text_sha256(PACKAGE, debian.SUITE, file_sha256(Path(__file__)), os.environ.get(debian.MIRROR_VARIABLE, ""))
    cache.mkdir(parents=True, exist_ok=True)
    entry = cached_directory(cache, "kernel", digest, _fetch)
    return Kernel(entry / _IMAGE, next((entry / _MODULES).iterdir()))


def _fetch(entry: Path) -> None:
    """Fetch the kernel's package, with apt's checks of its signature, and keep its image and its modules."""
    tree = entry / "tree"
    # Extracted only: nothing of it is configured, so that nothing looks for a boot loader.
    command = ["mmdebstrap", "--mode=root", "--variant=extract", "--format=directory",
               '--aptopt=APT::Install-Recommends "false"', '--aptopt=Acquire::Languages "none"',
               f"--include={PACKAGE}", debian.SUITE, str(tree)]  # fmt: skip
    if mirror := os.environ.get(debian.MIRROR_VARIABLE):
        command.append(mirror)
    try:
        with step("a kernel for machines, from Debian"):
            run(contained(command))
        (image,) = (tree / "boot").glob("vmlinuz-*")
        (modules,) = (tree / "usr/lib/modules").iterdir()
    except (CommandFailed, OSError, ValueError) as error:
        raise Error(
            "no kernel could be had from Debian",
            code="kernel-not-downloaded",
            expected=f"{PACKAGE} of {debian.SUITE}, with one kernel in it",
            found=error.found if isinstance(error, CommandFailed) else str(error),
            fix=f"check the network; {debian.MIRROR_VARIABLE} names another mirror of Debian",
        ) from error
    image.rename(entry / _IMAGE)
    (entry / _MODULES).mkdir()
    modules.rename(entry / _MODULES / modules.name)
    shutil.rmtree(tree)
