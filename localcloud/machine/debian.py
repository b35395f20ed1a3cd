"""Debian as a tree that boots on EC2: the plain base of a cloud, and what stands in for another distribution begins as.

mmdebstrap makes it, from the host's own keyring, with apt's signature checks on.
"""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

from localcloud.host.contained import contained
from localcloud.machine import base
from localcloud.settings import BaseImage
from support.cache import cached_directory
from support.digest import file_sha256, text_sha256
from support.errors import Error, HostLacks
from support.process import CommandFailed, run
from support.progress import step

SUITE = "trixie"
RELEASE = "13"
# A mirror of Debian to use instead of mmdebstrap's own choice.
MIRROR_VARIABLE = "DEBIAN_MIRROR"
# What an instance needs to boot, to be told who it is and to be reached, whatever else it is to be.
BOOTS = (
    "ca-certificates", "cloud-init", "curl", "dbus", "hostname", "iproute2", "iputils-ping", "less", "mawk",
    "openssh-server", "procps", "python3", "sudo", "systemd", "systemd-resolved", "systemd-sysv", "tzdata", "udev",
    "xfsprogs",
)  # fmt: skip
# By uname's name of a processor: Debian's, and EC2's.
ARCHITECTURES = {"x86_64": ("amd64", "x86_64"), "aarch64": ("arm64", "arm64")}
# Debian's own account (https://wiki.debian.org/Cloud/AmazonEC2Image/Trixie).
_OWNER = "136693071363"

_DPKG_OPTIONS = (
    # A tree that is being built when the power fails is built again: nothing needs to reach the disk now.
    "force-unsafe-io",
    "path-exclude=/usr/share/doc/*",
    "path-exclude=/usr/share/info/*",
    "path-exclude=/usr/share/lintian/*",
    "path-exclude=/usr/share/locale/*",
    "path-exclude=/usr/share/man/*",
)
# Of an instance, not of an image; and what would be done once more at each first boot.
_FINISH = """
set -eu
cd "$1"
rm -rf var/lib/apt/lists/* var/log/*
rm -f etc/ssh/ssh_host_* etc/hostname var/lib/dbus/machine-id var/lib/systemd/random-seed
: >etc/machine-id
"""


def make_tree(
    root: Path, downloads: Path, on_line: Callable[[str], None], packages: Sequence[str] = (), finish: str = ""
) -> None:
    """Make a tree with mmdebstrap in `root`: BOOTS and `packages`, keeping the .deb files in `downloads`.

    apt's lists stay in the tree, unless the shell script `finish` (its $1 is the tree) takes them out at the end. Each
    line of output goes to `on_line`. Raises `base-not-made` with mmdebstrap's last lines.
    """
    (downloads / "partial").mkdir(parents=True, exist_ok=True)
    hook = f'mkdir -p "$1/var/cache/apt/archives" && mount --bind "{downloads.resolve()}" "$1/var/cache/apt/archives"'
    command = [
        "mmdebstrap", "--mode=root", "--variant=apt", "--format=directory",
        # The cache is mounted over apt's archives, which are therefore neither empty nor to be emptied.
        "--skip=download/empty,essential/unlink,cleanup/apt",
        f"--setup-hook={hook}",
        '--customize-hook=umount "$1/var/cache/apt/archives"',
        *([f"--customize-hook={finish}"] if finish else []),
        '--aptopt=Acquire::Languages "none"',
        '--aptopt=APT::Install-Recommends "false"',
        *(f"--dpkgopt={option}" for option in _DPKG_OPTIONS),
        f"--include={','.join(sorted({*BOOTS, *packages}))}",
        SUITE,
        str(root.resolve()),
    ]  # fmt: skip
    if mirror := os.environ.get(MIRROR_VARIABLE):
        command.append(mirror)
    try:
        run(contained(command), on_line=on_line)
    except CommandFailed as failure:
        raise Error(
            "mmdebstrap could not make a tree of Debian",
            code="base-not-made",
            expected=f"a tree of Debian {RELEASE} ({SUITE})",
            found=failure.found,
            fix=f"check the network; {MIRROR_VARIABLE} names another mirror of Debian",
        ) from failure


def plain_base(cache: Path, certificate: Path, search: str | None = None) -> BaseImage:
    """Make Debian as a base image in `cache`, or find it there; it trusts the authority of `certificate`, a PEM file.

    mmdebstrap is looked for in PATH, unless `search` is given. Raises `programs-missing`, `architecture-missing`, and
    what make_tree raises.
    """
    debian, architecture = architecture_of_host()
    if not shutil.which("mmdebstrap", path=search):
        raise HostLacks(
            "this host lacks what makes the plain base",
            code="programs-missing",
            expected="mmdebstrap",
            found="not on PATH",
            fix="apt-get install --yes mmdebstrap, or --base FILE",
        )
    made_by = [file_sha256(Path(each)) for each in (__file__, base.__file__, certificate)]
    digest = text_sha256(debian, os.environ.get(MIRROR_VARIABLE, ""), *made_by)

    def build(entry: Path) -> None:
        with step(f"a plain base, from Debian {RELEASE}"):
            make_tree(entry / "root", cache / "packages", lambda _line: None, finish=_FINISH)
        base.fit(entry / "root", certificate.read_bytes())

    cache.mkdir(parents=True, exist_ok=True)
    root = cached_directory(cache, "debian", digest, build) / "root"
    name = f"debian-{RELEASE}-{debian}"
    return BaseImage(name, root, architecture, _OWNER, "", description=f"Debian {RELEASE}, made on this host")


def architecture_of_host() -> tuple[str, str]:
    """Return Debian's name and EC2's for this host's processor. Raises `architecture-missing`."""
    if (known := ARCHITECTURES.get(platform.machine())) is None:
        raise HostLacks(
            "EC2 has no instances with this host's processor",
            code="architecture-missing",
            expected=" or ".join(ARCHITECTURES),
            found=platform.machine(),
        )
    return known
