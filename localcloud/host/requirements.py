"""What a cloud needs of this host, checked before anything is made."""

from __future__ import annotations

import os
import shutil

from localcloud.host import binfmt
from localcloud.settings import NSPAWN, QEMU, CloudSettings
from support.errors import HostLacks

# Program -> Debian package.
PROGRAMS = {
    "systemd-nspawn": "systemd-container",
    "dnsmasq": "dnsmasq-base",
    "nft": "nftables",
    "ip": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "xfs_io": "xfsprogs",
}
# The same, for machines with a kernel of their own: QEMU, its disks, and what a base disk is made with.
QEMU_PROGRAMS = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
    "mkfs.ext4": "e2fsprogs",
    "depmod": "kmod",
}
# And for those that boot a disk image: what looks into one, and puts files into it.
DISK_IMAGE_PROGRAMS = {"qemu-storage-daemon": "qemu-system-common", "mdir": "mtools"}
# Room for the layers and volumes of one build and its test image; sparse files take only what is written.
NEEDED_BYTES = 2 << 30


def missing_packages(architectures: set[str], search: str | None = None, machines: str = NSPAWN) -> dict[str, str]:
    """Return the programs that this host lacks for `machines` of these architectures, each with its package.

    They are looked for in PATH and the directories of administration programs, unless `search` is given.
    """
    if search is None:
        search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    needed = PROGRAMS | (QEMU_PROGRAMS if machines == QEMU else {})
    missing = {program: package for program, package in needed.items() if not shutil.which(program, path=search)}
    if binfmt.needed(architectures) and not binfmt.INTERPRETER.exists():
        missing[binfmt.INTERPRETER.name] = "qemu-user-static"
    return missing


def check_root(user: int | None = None) -> None:
    """Raise `not-root` for any other user than root; for this process's unless `user` is given."""
    user = os.geteuid() if user is None else user
    if user != 0:
        raise HostLacks(
            "the local cloud needs root",
            code="not-root",
            expected="user root (machines, mounts and network namespaces)",
            found=f"user id {user}",
            fix="run the same command with sudo",
        )


def check_programs(architectures: set[str], search: str | None = None, machines: str = NSPAWN) -> None:
    """Raise `programs-missing` when this host lacks a program for `machines` of these architectures."""
    missing = missing_packages(architectures, search, machines)
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise HostLacks(
            "this host lacks programs that the local cloud is made of",
            code="programs-missing",
            expected=", ".join(sorted(missing)),
            found="not on PATH",
            fix=f"apt-get install --yes {packages}",
        )


def check(
    settings: CloudSettings, *, user: int | None = None, search: str | None = None, needed_bytes: int = NEEDED_BYTES
) -> None:
    """Raise `not-root`, `programs-missing` or `disk-too-small` when a cloud can't be carried by this host."""
    check_root(user)
    check_programs({image.architecture for image in settings.images}, search, settings.machines)
    existing = next(path for path in (settings.directory, *settings.directory.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < needed_bytes:
        raise HostLacks(
            "too little room for the cloud's state",
            code="disk-too-small",
            expected=f"{needed_bytes >> 20} MiB free at {settings.state}",
            found=f"{free >> 20} MiB",
            fix="free some, or choose another state directory",
        )
