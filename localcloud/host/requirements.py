"""What a cloud needs of this host, checked before anything is made."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from localcloud.host import binfmt
from localcloud.settings import CloudSettings
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
# Room for the layers and volumes of one build and its trial; sparse files take only what is written.
NEEDED_BYTES = 2 << 30


def missing_packages(architectures: set[str]) -> dict[str, str]:
    """Return the programs that this host lacks for machines of these architectures, each with its Debian package."""
    search = os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin"
    missing = {program: package for program, package in PROGRAMS.items() if not shutil.which(program, path=search)}
    if binfmt.needed(architectures) and not binfmt.INTERPRETER.exists():
        missing[binfmt.INTERPRETER.name] = "qemu-user-static"
    return missing


def check_root() -> None:
    """Raise `not-root` for anybody else."""
    if os.geteuid() != 0:
        raise HostLacks(
            "the local cloud needs root",
            code="not-root",
            expected="user root (machines, mounts and network namespaces)",
            found=f"user id {os.geteuid()}",
            fix="run the same command with sudo",
        )


def check(settings: CloudSettings) -> None:
    """Raise `not-root`, `programs-missing` or `disk-too-small` when a cloud can't be carried by this host."""
    check_root()
    missing = missing_packages({image.architecture for image in settings.images})
    if missing:
        packages = " ".join(sorted(set(missing.values())))
        raise HostLacks(
            "this host lacks programs that the local cloud is made of",
            code="programs-missing",
            expected=", ".join(sorted(missing)),
            found="not on PATH",
            fix=f"apt-get install --yes {packages}",
        )
    free = shutil.disk_usage(_existing(settings.directory)).free
    if free < NEEDED_BYTES:
        raise HostLacks(
            "too little room for the cloud's state",
            code="disk-too-small",
            expected=f"{NEEDED_BYTES >> 20} MiB free at {settings.state}",
            found=f"{free >> 20} MiB",
            fix="free some, or choose another state directory",
        )


def _existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path
