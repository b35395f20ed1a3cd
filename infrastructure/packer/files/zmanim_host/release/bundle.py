"""A release's bundle: what may be in it, and whether its program is one for this machine.

The form is a gzipped tar of zmanim-api, manifest.json and migrations/NAME.sql. Nothing is unpacked by a name that the
archive chooses freely: there are no other names.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import shutil
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from zmanim_host.host import HostError, sync_folder
from zmanim_host.release import migration_files

PROGRAM = "zmanim-api"
MANIFEST = "manifest.json"
LARGEST = 512 * 1024 * 1024  # bytes, unpacked
MOST_FILES = 10_000
_MIGRATION = re.compile(r"migrations/[0-9]{14}_[a-z0-9_]{1,150}\.sql")
_AARCH64 = 183  # e_machine
_BUILD_INFO = b"\xff Go buildinf:"
_PACKAGE = "cmd/api"


@dataclass(frozen=True)
class BuildInfo:
    """What a Go program says of how it was built: the main package, the settings such as GOARCH, and of what.

    `go` is the version of Go (`go1.26.8`), `modules` the versions of what the main module needs, by their paths.
    """

    package: str
    settings: Mapping[str, str] = field(default_factory=dict)
    go: str = ""
    modules: Mapping[str, str] = field(default_factory=dict)


def check_whole(content: bytes, *, sha256: str, size: int) -> None:
    """Raise HostError unless this is the bundle that was signed."""
    if len(content) != size:
        raise HostError(f"the bundle has {len(content)} bytes, and should have {size}")
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise HostError(f"the bundle's SHA-256 is {digest}, and should be {sha256}")


def unpack(content: bytes, directory: Path, version: str, largest: int = LARGEST) -> None:
    """Unpack a bundle that was checked into an empty directory, check what is in it, and make it durable.

    Raises HostError when it is not a release `version` for this machine, OSError when it can't be written.
    """
    (directory / "migrations").mkdir(mode=0o755)
    unpacked: Any = _Unpacked(content, largest)
    try:
        with tarfile.open(fileobj=unpacked, mode="r|") as archive:
            _unpack(archive, directory)
    except (tarfile.TarError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise HostError(f"the bundle can't be unpacked: {error}") from error
    check_manifest(directory, version)
    migration_files.check({path.name: path.read_bytes() for path in (directory / "migrations").iterdir()})
    program = (directory / PROGRAM).read_bytes()
    check_elf(program)
    check_build(build_info(program))
    for folder in (directory / "migrations", directory):
        sync_folder(folder)


def _unpack(archive: tarfile.TarFile, directory: Path) -> None:
    names: set[str] = set()
    for member in archive:
        # isreg() would say yes to a sparse file too.
        if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or not _is_name(member.name):
            raise HostError(f"the bundle holds {member.name[:200]!r}, which does not belong there")
        if member.name in names or len(names) >= MOST_FILES:
            raise HostError(f"the bundle holds {member.name!r} twice, or too many files")
        names.add(member.name)
        source = archive.extractfile(member)
        if source is None:
            raise HostError(f"the bundle's {member.name} can't be read")
        _write(source, directory / member.name, 0o755 if member.name == PROGRAM else 0o644)


def _is_name(name: str) -> bool:
    return name in (PROGRAM, MANIFEST) or bool(_MIGRATION.fullmatch(name))


def _write(source: IO[bytes], path: Path, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        shutil.copyfileobj(source, file)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())


class _Unpacked:
    """What a gzip file holds, up to the size that a release may have: a small file can hold a huge one."""

    def __init__(self, content: bytes, largest: int) -> None:
        self._file = gzip.GzipFile(fileobj=io.BytesIO(content), mode="rb")
        self._largest = self._left = largest

    def read(self, size: int) -> bytes:
        part = self._file.read(size)
        self._left -= len(part)
        if self._left < 0:
            raise HostError(f"the bundle is larger than {self._largest} bytes")
        return part


def check_manifest(directory: Path, version: str) -> None:
    """Raise HostError unless the manifest is that of `version` and names exactly the files that are there."""
    try:
        manifest = json.loads((directory / MANIFEST).read_bytes())
        identity = (manifest["version"], manifest["architecture"], manifest["sha256"])
        migrations = {each["name"]: each["sha256"] for each in manifest["migrations"]}
        unpacked = {path.name: _digest(path) for path in (directory / "migrations").iterdir()}
        program = _digest(directory / PROGRAM)
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise HostError(f"the bundle is not whole: {error!r}") from error
    if identity != (version, "aarch64", program):
        raise HostError(f"the bundle is another one than its manifest and the channel say ({version})")
    if migrations != unpacked or not unpacked:
        raise HostError("the bundle's migrations are not those of its manifest")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_elf(program: bytes) -> None:
    """Raise HostError unless this is a 64-bit little-endian ELF program for ARM64."""
    if program[:4] != b"\x7fELF" or program[4:6] != b"\x02\x01" or len(program) < 64:
        raise HostError("the release's program is not a 64-bit ELF program")
    (machine,) = struct.unpack_from("<H", program, 18)
    if machine != _AARCH64:
        raise HostError(f"the release's program is for another machine (ELF machine {machine}, and ARM64 is 183)")


def check_build(info: BuildInfo) -> None:
    """Raise HostError unless Go built this from the API's main package, static, for linux/arm64."""
    wanted = {"GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0"}
    settings = {name: info.settings.get(name, "") for name in wanted}
    if settings != wanted or not f"/{info.package}".endswith(f"/{_PACKAGE}"):
        raise HostError(
            f"the release's program is not the API built for linux/arm64: {info.package[:80]!r}, {settings}"
        )


def build_info(program: bytes) -> BuildInfo:
    """Return what a Go program (1.18 or newer) says of its build; HostError when it says nothing.

    The form is that of Go's debug/buildinfo: after the mark and a byte of flags, at byte 32, two strings, each behind
    its length: Go's version and, between 16 bytes on either side, the text that `go version -m` prints.
    """
    at = program.find(_BUILD_INFO)
    while at >= 0 and (at % 16 or program[at + 15 : at + 16] not in (b"\x02", b"\x03")):
        at = program.find(_BUILD_INFO, at + 1)
    if at < 0:
        raise HostError("the release's program was not built by Go")
    version, at = _string(program, at + 32)
    strings, _ = _string(program, at)
    text = strings[16:-16].decode("utf-8", "replace")
    package = re.search(r"^path\t([^\t\n]*)$", text, re.MULTILINE)
    settings = dict(re.findall(r"^build\t([^\t\n=]*)=([^\t\n]*)$", text, re.MULTILINE))
    modules = dict(_modules(text))
    return BuildInfo(package[1] if package else "", settings, version.decode("utf-8", "replace"), modules)


def _modules(text: str) -> Iterator[tuple[str, str]]:
    """Yield path and version of each module that is linked: of one that is replaced, those of what replaces it."""
    for own, other in re.findall(r"^dep\t([^\n]*)$(?:\n=>\t([^\n]*)$)?", text, re.MULTILINE):
        path, _, version = (other or own).partition("\t")
        yield path, version.partition("\t")[0]


def _string(program: bytes, at: int) -> tuple[bytes, int]:
    """Return the string behind a varint of its length, and where the next thing begins."""
    length = shift = 0
    for byte in program[at : at + 5]:
        length |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            break
    if at + length > len(program):
        raise HostError("the release's program is cut short")
    return program[at : at + length], at + length
