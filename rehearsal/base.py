"""A root file system of somebody's own as the base image, instead of the stand-in: `rehearse --base FILE`."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass
from pathlib import Path

from localcloud import guest
from support.cache import cached_directory
from support.digest import file_sha256
from support.errors import BadInput
from support.process import CommandFailed, run
from toolchain.elf import NotElf, read_elf

_SYSTEMD = "usr/lib/systemd/systemd"
# What a machine image of Amazon Linux has and its container image lacks in part.
_NEEDED = (
    _SYSTEMD, "usr/bin/cloud-init", "usr/sbin/sshd", "usr/bin/sudo", "usr/bin/dnf", "usr/bin/rpm", "usr/bin/python3",
)  # fmt: skip


class BaseUnreadable(BadInput):
    """The file is no tar archive that can be unpacked whole."""


class BaseIncomplete(BadInput):
    """The tree is not one that boots here as a machine image does."""


@dataclass(frozen=True)
class Base:
    """An unpacked base: its tree (to be used read-only), the file that it came from, and that file's SHA-256."""

    root: Path
    file: Path
    sha256: str


def unpack(file: Path, cache: Path, certificate: Path) -> Base:
    """Unpack a tar archive of a root file system (plain, .gz, .xz, .zst) in `cache`, or find it there.

    The tree is made a guest of the cloud and trusts the authority of `certificate`, a PEM file. Raises BaseUnreadable,
    BaseIncomplete.
    """
    if not file.is_file():
        raise BaseUnreadable(f"there is no file {file}", expected="a tar archive of a root file system", found="none")
    sha256, trusted = file_sha256(file), certificate.read_bytes()
    inputs = [sha256, file_sha256(Path(guest.__file__)), file_sha256(Path(__file__)), trusted.hex()]
    digest = hashlib.sha256("\0".join(inputs).encode()).hexdigest()
    cache.mkdir(parents=True, exist_ok=True)
    entry = cached_directory(cache, "base", digest, lambda entry: _unpack(file, entry / "root", trusted))
    return Base(entry / "root", file, sha256)


def _unpack(file: Path, root: Path, certificate: bytes) -> None:
    root.mkdir()
    command = ["tar", "--extract", "--numeric-owner", "--xattrs", "--xattrs-include=*", "--same-permissions"]
    try:
        # GNU tar sees how it is compressed, strips a leading / and refuses members with .. in their names.
        run([*command, "--file", str(file.resolve()), "--directory", str(root)])
    except CommandFailed as failure:
        raise BaseUnreadable(
            f"{file} can't be unpacked",
            expected="a whole tar archive: plain, gzip, xz or zstd",
            found=failure.output.strip()[-500:],
            fix="docker export makes one of a container's file system",
        ) from failure
    _check(file, root)
    guest.fit(root, certificate)


def _check(file: Path, root: Path) -> None:
    missing = [f"/{name}" for name in _NEEDED if not _is_there(root, name)]
    if missing:
        raise BaseIncomplete(
            f"{file} can't boot as a machine image",
            expected="systemd, cloud-init, sshd, sudo, dnf, rpm and Python, as in Amazon's machine images",
            found=f"no {', '.join(missing)}",
            fix="install them in the container before its file system is exported (docs/rehearsal.md)",
        )
    try:
        machine = read_elf(root / _SYSTEMD).machine
    except NotElf as error:
        machine = str(error)
    if machine != platform.machine():
        raise BaseIncomplete(
            f"{file} is for another machine",
            expected=platform.machine(),
            found=machine,
            fix="rehearse on a host of its architecture",
        )


def _is_there(root: Path, name: str) -> bool:
    # A link may be absolute, and then begins at the tree's root: that it is there is enough.
    return (root / name).is_symlink() or (root / name).is_file()
