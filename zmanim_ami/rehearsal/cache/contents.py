"""What the user's cache holds: each thing that can go by itself, and of what kind it is."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from stat import S_ISDIR

from support.cache import is_held
from support.host import Requirement
from zmanim_ami.toolchain import go_caches

MB = 1_000_000
_ENTRY = "-[0-9a-f]{16}"
# Whose entries go each by itself.
_FOLDERS = ("tools", "go", "packages")


@dataclass(frozen=True)
class Kind:
    """Things of one kind: their paths below the cache, as a regular expression.

    What does not go by itself stays whatever the cache may hold: it is bounded otherwise, or can't be made again.
    """

    name: str
    what: str
    paths: str
    goes: bool = True


OTHER = Kind(
    "other", "the authority of local clouds, Packer's empty configuration, what was cut short", ".*", goes=False
)
KINDS = (
    Kind("tools", "Packer, its plugin, restic and the gate's programs, as built", f"tools/[^/.][^/]*{_ENTRY}"),
    Kind("Go", "Go itself, where this host has none that is new enough", f"go/toolchain{_ENTRY}"),
    Kind("compiled by Go", f"at most {go_caches.BUILD_BYTES // MB} MB after a build", "go/build", goes=False),
    Kind("sources for Go", "the API's; the tools' only while they are built", r"go/(\w+-)?modules"),
    Kind("Debian's packages", "what the stand-in is made of", "debian"),
    Kind("stand-in", "trees that machines start from, and the mirror", f"standin(-tree)?{_ENTRY}"),
    Kind("bases", "root file systems of --base", f"base{_ENTRY}"),
    Kind("QEMU", "kernels and disks of machines with a kernel of their own", f"(kernel|disk|[a-z]+-image){_ENTRY}"),
    Kind("compiled packages", "Redis, pgvector and pg_cron of earlier builds", "packages/[^/.][^/]*"),
    Kind("moto's tests", "for ./nox -s clients", f"moto-tests{_ENTRY}"),
    OTHER,
)


@dataclass(frozen=True)
class Item:
    """A thing in the cache: its place on the disk in bytes, when it was used last (seconds since 1970).

    One that is `held` is in use by some process. Of a file with several names each counts its part.
    """

    path: Path
    kind: Kind
    bytes: int
    used: float
    held: bool = False


@dataclass(frozen=True)
class Kept(Requirement):
    """What `inv doctor` says of a kind; nothing is asked of it."""

    bytes: int = 0
    last_used: str = ""


def items(cache: Path) -> list[Item]:
    """Return everything that is in `cache`; what disappears meanwhile is left out."""
    return [Item(path, kind, *_measured(path), held=kind.goes and is_held(path)) for path, kind in _places(cache)]


def folders(cache: Path) -> list[Path]:
    """Return the folders that hold what is in `cache`: itself, and those below whose entries go each by itself."""
    return [each for each in (cache, *(cache / name for name in _FOLDERS)) if each.is_dir()]


def rows(cache: Path, limit: int) -> list[Kept]:
    """Return a row for each kind that is in `cache`, and one for all of it, which may have `limit` bytes."""
    found = items(cache)
    kinds = [(kind, [each for each in found if each.kind == kind]) for kind in KINDS]
    kinds.append((Kind("all of it", f"at most {limit // MB} MB after a rehearsal (setting cache_mb)", ""), found))
    return [_row(kind.name, kind.what, each) for kind, each in kinds if each]


def for_people(row: Kept) -> Requirement:
    """Return a row as a table of requirements has it."""
    return Requirement(row.name, row.purpose, row.ok, row.found, row.fix, row.needed)


def _row(name: str, purpose: str, found: Sequence[Item]) -> Kept:
    size, used = sum(each.bytes for each in found), max(each.used for each in found)
    last = datetime.fromtimestamp(used).astimezone().isoformat(sep=" ", timespec="minutes")
    words = f"{size / MB:.0f} MB, used last {last}" + (", in use" if any(each.held for each in found) else "")
    return Kept(f"cache: {name}", purpose, True, words, "", needed=False, bytes=size, last_used=last)


def _places(cache: Path) -> Iterator[tuple[Path, Kind]]:
    """Yield what can go by itself and, of what is in no such thing, each file or folder."""
    for folder in folders(cache):
        for path in sorted(folder.iterdir()):
            if path not in folders(cache):
                name = str(path.relative_to(cache))
                yield path, next(kind for kind in KINDS if re.fullmatch(kind.paths, name))


def _measured(path: Path) -> tuple[int, float]:
    """Return the bytes on the disk below `path`, each file's divided by its names, and when that was used last."""
    size, used, waiting = 0, time.time(), [path]
    with suppress(OSError):
        used = path.lstat().st_mtime
    while waiting:
        here = waiting.pop()
        with suppress(OSError):  # it is just going, or another user's
            stat = here.lstat()
            folder = S_ISDIR(stat.st_mode)
            size += stat.st_blocks * 512 // (1 if folder else stat.st_nlink)
            waiting += here.iterdir() if folder else ()
    return size, used
