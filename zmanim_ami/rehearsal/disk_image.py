"""A whole disk image of Amazon Linux as a base, for machines with a kernel of their own.

`base-image --kvm` checks one and puts it where it is wanted, `--base FILE` makes a base of it: with the local cloud's
own files on a copy. No checksum is known here: who wants an image says which it is.
"""

from __future__ import annotations

import errno
import hashlib
import platform
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path

from localcloud.machine import base as guest
from localcloud.machine import qemu
from localcloud.machine.qemu import acceleration, base_disk, firmware
from localcloud.machine.qemu.disk_image import header, layout, make
from support import https
from support.cache import cached_directory
from support.digest import file_sha256, files_below, text_sha256, tree_sha256
from support.errors import BadInput, Error, HostLacks
from support.progress import say, step
from zmanim_ami.rehearsal import kernel
from zmanim_ami.rehearsal.base import Base

# Amazon's have about 2 GB.
MOST_BYTES = 8 << 30
_BLOCK = 1 << 20
# Of what may go wrong while something is fetched and written, what is this host's: a full disk, its limits.
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_SECONDS = 60.0
_PROGRESS_SECONDS = 5.0


@dataclass(frozen=True)
class DiskFile:
    """What was checked: the file, its SHA-256, where it came from, whose boot loader it has, its disk in GiB."""

    file: str
    sha256: str
    source: str
    architecture: str
    disk_gib: float


def fetch(
    source: str, sha256: str, file: Path, cache: Path, *, opened: Callable[[str, float], HTTPResponse] = https.opened
) -> DiskFile:
    """Put the disk image at `source`, a file or an https address, into `file` once its checksum and its form are right.

    What comes from an address is kept in `cache` by its checksum. Nothing of an image that is not right stays. Raises
    `no-checksum`, `checksum-differs`, `image-too-large`, `not-https`, `image-not-downloaded`, `disk-too-small`, and
    what header.check, layout.find and firmware.check_programs raise.
    """
    if not re.fullmatch(r"[0-9a-fA-F]{64}", sha256):
        raise BadInput(
            "a disk image is taken by its checksum only",
            code="no-checksum",
            expected="--sha256 with the 64 hex digits that its maker names (SHA256SUMS, beside Amazon's)",
            found=repr(sha256),
        )
    sha256 = sha256.lower()
    firmware.check_programs({"qemu-img": "qemu-utils", "mdir": "mtools"})
    origin = _downloaded(source, sha256, cache, opened) if "://" in source else Path(source)
    if not origin.is_file():
        raise BadInput(
            f"there is no file {source}", code="image-unreadable", expected="a qcow2 file, or its address", found="none"
        )
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f".{file.name}.unfinished")
    try:
        with step(f"checking {origin.name}"), origin.open("rb") as content:
            _write(iter(lambda: content.read(_BLOCK), b""), unfinished, source, sha256)
        size = header.check(unfinished)
        found = layout.find(unfinished, size)
        unfinished.rename(file)
    except OSError as error:
        raise _no_room(file, error) from error
    finally:
        unfinished.unlink(missing_ok=True)
    return DiskFile(str(file), sha256, source, found.architecture, round(size / (1 << 30), 1))


def unpack(file: Path, cache: Path, certificate: Path) -> Base:
    """Make a base of a disk image in `cache`, or find it there, that trusts the authority of `certificate`.

    Raises what header.check, layout.find, firmware.check and disk_image.make raise.
    """
    firmware.check(layout.find(file, header.check(file)).architecture)
    sha256 = file_sha256(file)
    directory = Path(qemu.__file__).parent
    parts = [directory / "base_disk.py", *files_below(directory / "guest"), *files_below(directory / "disk_image")]
    emulator = kernel.shipped_emulator()
    others = [certificate, Path(guest.__file__), *([emulator] if emulator else [])]
    digest = text_sha256(sha256, tree_sha256(directory, parts), *map(file_sha256, others))

    def build(entry: Path) -> None:
        with step(f"the local cloud's files on a copy of {file.name}"):
            make.make(file, entry, certificate, emulator=emulator)

    cache.mkdir(parents=True, exist_ok=True)
    entry = cached_directory(cache, "disk-image", digest, build)
    return Base(entry, file, sha256, disk=entry)


def accelerator_of(disk: Path, accel: str, cache: Path) -> str:
    """Return "kvm" or "tcg" for machines of the base disk in the directory `disk`, as acceleration.choose does.

    Raises `kvm-fails` where KVM is asked for and the disk is another processor's, and what choose raises.
    """
    architecture = (disk / firmware.ARCHITECTURE).read_text()
    if not firmware.is_emulated(architecture):
        return acceleration.choose(accel, disk / base_disk.KERNEL, cache)
    acceleration.check(accel)
    if accel == "kvm":
        raise HostLacks(
            "KVM runs machines of this host's own processor",
            code="kvm-fails",
            expected=f"a disk image for {platform.machine()}",
            found=f"one for {architecture}",
            fix="--accel tcg emulates the processor, many times slower",
        )
    say(f"machines are emulated, many times slower than by KVM: {architecture} on {platform.machine()}")
    return "tcg"


def _downloaded(url: str, sha256: str, cache: Path, opened: Callable[[str, float], HTTPResponse]) -> Path:
    if not url.startswith("https://"):
        raise BadInput(
            "a disk image is fetched by https only", code="not-https", expected="https://… or a file", found=url
        )

    def download(entry: Path) -> None:
        try:
            with step(f"fetching {url}"), opened(url, _SECONDS) as response:
                if not response.url.startswith("https://"):
                    raise OSError(f"it leads to {response.url}")
                expected = int(response.headers.get("Content-Length") or 0)
                if expected > MOST_BYTES:
                    raise _too_large(url, expected)
                _write(_told(iter(lambda: response.read(_BLOCK), b""), expected), entry / "image", url, sha256)
        except (OSError, ValueError, HTTPException) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise _no_room(entry, error) from error
            raise Error(
                f"{url} could not be fetched",
                code="image-not-downloaded",
                expected="the whole file",
                found=str(error),
                fix="check the address and the network, and run it again",
            ) from error

    cache.mkdir(parents=True, exist_ok=True)
    return cached_directory(cache, "downloaded-image", sha256, download) / "image"


def _write(blocks: Iterator[bytes], target: Path, source: str, sha256: str) -> None:
    """Write `blocks` to `target`; it is deleted again where it has not the checksum. Raises OSError."""
    digest, size = hashlib.sha256(), 0
    try:
        with target.open("wb") as file:
            for block in blocks:
                size += len(block)
                if size > MOST_BYTES:
                    raise _too_large(source, size)
                digest.update(block)
                file.write(block)
        if digest.hexdigest() != sha256:
            raise BadInput(
                f"{source} is not the file that was meant",
                code="checksum-differs",
                expected=f"SHA-256 {sha256}",
                found=f"{digest.hexdigest()} ({size} bytes)",
                fix="take both from one place, of one release; a file that was cut short is fetched again",
            )
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _told(blocks: Iterator[bytes], expected: int) -> Iterator[bytes]:
    """Say how much has come, now and then."""
    size, said = 0, time.monotonic()
    for block in blocks:
        size += len(block)
        if time.monotonic() - said > _PROGRESS_SECONDS:
            said = time.monotonic()
            say(f"  {size >> 20} MiB" + (f" of {expected >> 20}" if expected else ""))
        yield block


def _too_large(source: str, size: int) -> BadInput:
    return BadInput(
        f"{source} is too large for a disk image of a base",
        code="image-too-large",
        expected=f"at most {MOST_BYTES >> 30} GiB",
        found=f"{size} bytes or more",
    )


def _no_room(path: Path, error: OSError) -> HostLacks:
    return HostLacks(
        "the disk image can't be written",
        code="disk-too-small",
        expected=f"room for it at {path.parent}",
        found=str(error),
        fix="free some, or choose another --file; XDG_CACHE_HOME moves the cache",
    )
