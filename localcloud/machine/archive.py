"""A root file system in a tar archive as the tree of a base image."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from pathlib import Path

from localcloud.machine import base, tree
from support.cache import cached_directory
from support.digest import file_sha256, text_sha256
from support.elf import NotElf, read_elf
from support.errors import BadInput
from support.process import CommandFailed, run

SYSTEMD = "usr/lib/systemd/systemd"
# What an instance can't do without, whatever distribution it is of, each with the package that has it.
NEEDED: Mapping[str, str] = {
    SYSTEMD: "systemd",
    "usr/bin/cloud-init": "cloud-init",
    "usr/sbin/sshd": "openssh-server",
    "usr/bin/python3": "python3",
    "usr/bin/sudo": "sudo",
}


def check_is_file(file: Path) -> None:
    """Raise `base-unreadable` where there is no such file."""
    if not file.is_file():
        raise BadInput(
            f"there is no file {file}",
            code="base-unreadable",
            expected="a tar archive of a root file system",
            found="none",
        )


def unpacked(file: Path, cache: Path, certificate: Path, needed: Mapping[str, str] = NEEDED, hint: str = "") -> Path:
    """Return the tree that an archive was unpacked as, in `cache`, now or earlier. Raises what `unpack` does."""
    check_is_file(file)
    digests = (file_sha256(each) for each in (file, certificate, Path(base.__file__), Path(__file__)))
    cache.mkdir(parents=True, exist_ok=True)
    digest = text_sha256(*digests, *sorted(needed))
    entry = cached_directory(
        cache, "base", digest, lambda entry: unpack(file, entry / "root", certificate, needed, hint)
    )
    return entry / "root"


def unpack(file: Path, root: Path, certificate: Path, needed: Mapping[str, str] = NEEDED, hint: str = "") -> None:
    """Unpack a tar archive of a root file system (plain, .gz, .xz, .zst) as the new directory `root`.

    The tree is made a guest of the cloud and trusts the authority of `certificate`, a PEM file. `needed` are the files
    that have to be there, with their packages; `hint` is what to do when one is not. Raises `base-unreadable`,
    `base-incomplete`.
    """
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
    _check(file, root, needed, hint)
    # What `docker export` puts in: the sign of a container, and empty files where it had mounted its own.
    (root / ".dockerenv").unlink(missing_ok=True)
    hosts = tree.read(root, "etc/hosts")
    if hosts is not None and not hosts.strip():
        tree.write(root, "etc/hosts", b"127.0.0.1 localhost\n::1 localhost\n")
    base.fit(root, certificate.read_bytes())


def _check(file: Path, root: Path, needed: Mapping[str, str], hint: str) -> None:
    # A link may be absolute, and then begins at the tree's root.
    missing = [name for name in needed if not tree.inside(root, name).exists()]
    if missing:
        raise BadInput(
            f"{file} can't boot as a machine image",
            code="base-incomplete",
            expected="what machine images have, among it systemd, cloud-init and sshd",
            found=f"no {', '.join(f'/{name}' for name in missing)}",
            fix=hint or f"install {', '.join(dict.fromkeys(needed[name] for name in missing))} before archiving it",
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
            fix="start it on a host of its architecture",
        )
