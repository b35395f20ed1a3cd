"""A root file system of somebody's own as the base image, instead of the stand-in: `rehearse --base FILE`."""

from __future__ import annotations

import configparser
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from localcloud.machine import base as guest
from localcloud.machine import tree
from support.cache import cached_directory
from support.digest import file_sha256, text_sha256
from support.errors import BadInput
from support.process import CommandFailed, run
from zmanim_ami.toolchain.elf import NotElf, read_elf

SYSTEMD = "usr/lib/systemd/systemd"
# What a machine image of Amazon Linux has and its container image lacks in part, each with the package that brings it:
# what boots, and what the build's scripts use before they install anything. container.py installs these.
# As pairs: a word with `passwd` and a colon looks like a secret to whoever seeks them.
_BROUGHT_BY = (
    (SYSTEMD, "systemd"),
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
    if not file.is_file():
        raise BadInput(
            f"there is no file {file}",
            code="base-unreadable",
            expected="a tar archive of a root file system",
            found="none",
        )
    sha256, *others = (file_sha256(each) for each in (file, certificate, Path(guest.__file__), Path(__file__)))
    cache.mkdir(parents=True, exist_ok=True)
    digest = text_sha256(sha256, *others)
    entry = cached_directory(cache, "base", digest, lambda entry: _unpack(file, entry / "root", certificate))
    return Base(entry / "root", file, sha256)


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


def _unpack(file: Path, root: Path, certificate: Path) -> None:
    root.mkdir()
    command = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--same-permissions"]
    try:
        # GNU tar sees how it is compressed, strips a leading / and refuses members with .. in their names.
        run([*command, "--file", str(file.resolve()), "--directory", str(root)])
    except CommandFailed as failure:
        raise BadInput(
            f"{file} can't be unpacked",
            code="base-unreadable",
            expected="a whole tar archive: plain, gzip, xz or zstd",
            found=failure.found,
            fix="docker export makes one of a container's file system",
        ) from failure
    _check(file, root)
    # What `docker export` puts in: the sign of a container, and empty files where it had mounted its own.
    (root / ".dockerenv").unlink(missing_ok=True)
    hosts = tree.read(root, "etc/hosts")
    if hosts is not None and not hosts.strip():
        tree.write(root, "etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    guest.fit(root, certificate.read_bytes())


def _check(file: Path, root: Path) -> None:
    # A link may be absolute, and then begins at the tree's root.
    missing = [f"/{name}" for name in NEEDED if not tree.inside(root, name).exists()]
    if missing:
        raise BadInput(
            f"{file} can't boot as a machine image",
            code="base-incomplete",
            expected="what Amazon's machine images have, among it systemd, cloud-init and sshd",
            found=f"no {', '.join(missing)}",
            fix="./inv base-image makes a file that has all of it",
        )
    try:
        machine = read_elf(tree.inside(root, SYSTEMD)).machine
    except NotElf as error:
        machine = str(error)
    if machine != platform.machine():
        raise BadInput(
            f"{file} is for another machine",
            code="base-incomplete",
            expected=platform.machine(),
            found=machine,
            fix="rehearse on a host of its architecture",
        )
