"""A root file system of somebody's own as the base image, instead of the stand-in: `rehearse --base FILE`."""

from __future__ import annotations

import configparser
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.machine import archive, tree
from support.digest import file_sha256
from support.errors import BadInput

# What a machine image of Amazon Linux has and its container image lacks in part, each with the package that brings it:
# what boots, and what the build's scripts use before they install anything. container.py installs these.
# As pairs: a word with `passwd` and a colon looks like a secret to whoever seeks them.
_BROUGHT_BY = (
    (archive.SYSTEMD, "systemd"),
    ("usr/lib/systemd/systemd-networkd", "systemd-networkd"),
    ("usr/bin/udevadm", "systemd-udev"),
    ("usr/bin/cloud-init", "cloud-init"),
    ("usr/sbin/sshd", "openssh-server"),
    ("usr/bin/sudo", "sudo"),
    ("usr/bin/dnf", "dnf"),
    ("usr/bin/rpm", "rpm"),
    ("usr/bin/python3", "python3"),
    ("usr/sbin/runuser", "util-linux"),
    ("usr/sbin/useradd", "shadow-utils"),
    ("usr/bin/passwd", "passwd"),
    ("usr/bin/find", "findutils"),
    ("usr/bin/tar", "tar"),
    ("usr/bin/gzip", "gzip"),
    ("usr/sbin/ip", "iproute"),
    ("usr/bin/ps", "procps-ng"),
)
NEEDED: Mapping[str, str] = dict(_BROUGHT_BY)


@dataclass(frozen=True)
class Base:
    """An unpacked base: its tree (to be used read-only), the file that it came from, and that file's SHA-256.

    Of a whole disk image (disk_image.py) both `root` and `disk` are the directory with the base's disk.
    """

    root: Path
    file: Path
    sha256: str
    disk: Path | None = None


def unpack(file: Path, cache: Path, certificate: Path) -> Base:
    """Unpack a tar archive of a root file system (plain, .gz, .xz, .zst) in `cache`, or find it there.

    The tree is made a guest of the cloud and trusts the authority of `certificate`, a PEM file. Raises
    `base-unreadable`, `base-incomplete`.
    """
    hint = "./inv base-image makes a file that has all of it"
    return Base(archive.unpacked(file, cache, certificate, NEEDED, hint), file, file_sha256(file))


def check_repositories(base: Base) -> None:
    """Raise `repositories-outside` when an enabled repository is on the network, where machines don't get."""
    outside = []
    for path in sorted(tree.inside(base.root, "etc/yum.repos.d").glob("*.repo")):
        content = tree.read(base.root, str(path.relative_to(base.root)))
        parser = configparser.ConfigParser(interpolation=None, strict=False, default_section="")
        try:
            parser.read_string((content or b"").decode(errors="replace"))
        except configparser.Error:
            continue  # dnf will say so, and better
        for name, section in parser.items():
            address = " ".join(section.get(key, "") for key in ("baseurl", "mirrorlist", "metalink"))
            if section.get("enabled", "1").strip() == "1" and re.search(r"\b(https?|ftp)://", address):
                outside.append(f"{name} ({address.split()[0]})")
    if outside:
        raise BadInput(
            f"{base.file} takes its packages from outside, and machines have no way out",
            code="repositories-outside",
            expected="repositories that are files of the tree",
            found=", ".join(outside),
            fix="--egress lets machines reach them",
        )
