"""Whether Redis can load its append-only file, and what takes its place when it can't.

Redis itself cuts off a torn tail, and refuses a file that is damaged elsewhere; with a snapshot (dump.rdb) and no
append-only file it would come up empty, and write its emptiness over the snapshot. So this runs before it: a damaged
append-only file is moved aside, never removed, and the snapshot becomes the base of a new one. What Redis is about to
cut off is kept as well: nobody would hear of it otherwise.
"""

from __future__ import annotations

import mmap
import os
import re
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import ANSWER_SECONDS, ERROR, HostError, log, run, sync_folder, write_whole

DATA = Path("/data/redis")
FOLDER = "appendonlydir"
MANIFEST = "appendonly.aof.manifest"
BASE = "appendonly.aof.1.base.rdb"
SNAPSHOT = "dump.rdb"
# What Redis writes before a rename puts it in its place (rdb.c, aof.c): a snapshot, a rewritten append-only file.
UNFINISHED = ("temp-*.rdb", "temp-rewriteaof-*.aof")
# How many damaged append-only files are kept; the oldest goes when there are more.
MAX_DAMAGED = 3
# How much of a torn tail is kept, and how many of them.
MOST_OF_A_TAIL = 16 << 20
MAX_TAILS = 3
# How often to look whether somebody has removed them, in seconds.
WATCH = 10.0
# The exit code and the words of redis-check-aof for a manifest.
Check = Callable[[Path], tuple[int, str]]

_ANALYZED = re.compile(r"AOF analyzed: filename=(\S+), size=(\d+), ok_up_to=(\d+)")
_KEYS = re.compile(r"^\[info\] (\d+) (keys read|expires|already expired)$", re.MULTILINE)
_COUNT = re.compile(rb"\*(\d{1,10})\r\n")
_LENGTH = re.compile(rb"\$(\d{1,10})\r\n")
_CUT_COUNT = re.compile(rb"\*(?:\d{1,10}\r?)?\Z")
_CUT_LENGTH = re.compile(rb"\$(?:\d{1,10}\r?)?\Z")
_NEXT_COMMAND = re.compile(rb"\r\n\*\d{1,10}\r\n\$\d{1,10}\r\n")
_MULTI = re.compile(rb"\*1\r\n\$5\r\nmulti\r\n", re.IGNORECASE)


@dataclass(frozen=True)
class Keys:
    """What an RDB file holds: keys that never expire, keys that do, and those of them whose time is over."""

    lasting: int
    expiring: int
    expired: int


def rdb_keys(file: Path, *, inside: Sequence[str] = ()) -> Keys:
    """Return what an RDB file holds; HostError when redis-check-rdb finds it damaged or cut short.

    `inside` are the words that run a program where the file is.
    """
    done = run([*inside, "redis-check-rdb", str(file)], timeout=1800, may_exit=range(-64, 256))
    counts = {what: int(number) for number, what in _KEYS.findall(done.stdout)}
    if done.returncode or len(counts) != 3:
        raise HostError(f"{file.name} is no whole snapshot of Redis: {done.stdout.strip()[-1000:]}")
    return Keys(counts["keys read"] - counts["expires"], counts["expires"], counts["already expired"])


def installed_version() -> str:
    """Return the installed Redis's version."""
    match = re.search(r"v=(\S+)", run(["redis-server", "--version"], timeout=ANSWER_SECONDS).stdout)
    return match[1] if match else ""


def check_aof(manifest: Path) -> tuple[int, str]:
    """Run redis-check-aof, for five minutes at most; HostError when it comes to no end."""
    done = run(["redis-check-aof", str(manifest)], timeout=300, may_exit=range(-64, 256))
    return done.returncode, done.stdout


def is_torn(content: bytes | mmap.mmap, start: int) -> bool:
    """Return whether `content` just stops within a command that begins at `start` (or within its MULTI).

    It does not when anything contradicts the format before the end. A length that reaches beyond the end is a damaged
    one when whole commands follow it: Redis would cut them all off.
    """
    position, size = start, len(content)
    while position < size:
        counted = _COUNT.match(content, position)
        if not counted:
            return _CUT_COUNT.match(content, position) is not None
        position = counted.end()
        for _ in range(int(counted[1])):
            if position == size:
                return True
            measured = _LENGTH.match(content, position)
            if not measured:
                return _CUT_LENGTH.match(content, position) is not None
            end = measured.end() + int(measured[1])
            if end + 2 > size:
                return _NEXT_COMMAND.search(content, measured.end()) is None and b"\r\n".startswith(content[end:size])
            if content[end : end + 2] != b"\r\n":
                return False
            position = end + 2
    return _MULTI.match(content, start) is not None


def last_file(manifest: str) -> str | None:
    """Return the name of the file that Redis was writing to, or None when the manifest names none."""
    rows = [line.split() for line in manifest.splitlines()]
    names = [row[1] for row in rows if len(row) >= 6 and row[0] == "file" and row[5] in {"b", "i"}]
    return names[-1] if names else None


def damage(manifest: Path, check: Check) -> str | None:
    """Return what is wrong with the append-only file, or None when Redis can load it, a torn tail included."""
    name = last_file(manifest.read_text("utf-8", "replace"))
    if name is None:
        # redis-check-aof takes such a manifest for an empty append-only file, and finds nothing wrong.
        return f"{manifest} names no file"
    try:
        code, output = check(manifest)
    except HostError as error:
        # Redis refuses what it can't load: nothing is lost by letting it judge.
        log(f"the append-only file could not be checked ({error}): Redis checks it itself when it loads it")
        return None
    if code == 0:
        return None
    analyzed = _ANALYZED.findall(output)
    if analyzed and analyzed[-1][0] == name:
        whole = int(analyzed[-1][2])
        with (manifest.parent / name).open("rb") as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            with content:
                torn = whole < len(content) and is_torn(content, whole)
                tail = content[whole : whole + MOST_OF_A_TAIL] if torn else b""
        if torn:
            log(f"{name} ends within a command: Redis cuts off what comes after byte {whole}")
            keep_tail(manifest.parent.parent, tail)
            return None
        log(output)
        return f"{name} is damaged after byte {whole}"
    log(output)
    return f"redis-check-aof ends with exit code {code}"


def is_unused(data: Path) -> bool:
    """Return whether Redis never held anything here: a new volume, or one whose first start was cut short.

    Redis writes its manifest before it serves: without one, nothing was acknowledged unless a file has content.
    """
    written = [path for path in (data / FOLDER).glob("*.incr.aof") if path.stat().st_size]
    return not written and not (data / SNAPSHOT).exists() and not damaged_files(data)


def damaged_files(data: Path) -> list[Path]:
    """Return the damaged append-only files that are kept, the oldest first."""
    return sorted(data.glob("damaged-*"))


def torn_tails(data: Path) -> list[Path]:
    """Return what is kept of the tails that Redis cut off, the oldest first."""
    return sorted(data.glob("torn-*"))


def keep_tail(data: Path, tail: bytes, now: Callable[[], float] = time.time) -> None:
    """Keep what Redis is about to cut off, once: a start that came to nothing before that finds the same again.

    A disk that takes no more keeps Redis from nothing.
    """
    if any(kept.read_bytes() == tail for kept in torn_tails(data)):
        return
    kept = data / time.strftime("torn-%Y%m%dT%H%M%SZ", time.gmtime(now()))
    try:
        write_whole(kept, tail, mode=0o600)
    except OSError as error:
        log(f"ALARM: Redis's append-only file was torn, and what is cut off can't be kept: {error}", ERROR)
        return
    for old in torn_tails(data)[:-MAX_TAILS]:
        old.unlink()


def make_from_snapshot(data: Path, check: Check) -> Path:
    """Return a new append-only folder, not yet in its place, whose base is the snapshot.

    Raises HostError when there is no snapshot, or none that Redis could load.
    """
    snapshot = data / SNAPSHOT
    if not snapshot.exists():
        raise HostError(f"there is no {snapshot}")
    folder = data / f".{FOLDER}.unfinished"
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(mode=0o700)
    # A link, not a copy: it takes no room on a full volume, and Redis replaces both files, never writes into them.
    os.link(snapshot, folder / BASE)
    write_whole(folder / MANIFEST, f"file {BASE} seq 1 type b\n", mode=0o600)
    code, output = check(folder / MANIFEST)
    if code or not (folder / BASE).stat().st_size:
        shutil.rmtree(folder)
        log(output)
        raise HostError(f"{snapshot} is damaged too")
    sync_folder(folder)
    return folder


def fall_back(data: Path, reason: str, check: Check, now: Callable[[], float] = time.time) -> None:
    """Move the damaged append-only folder aside and put one made from the snapshot in its place.

    Cut short after the first rename, the next run finds the snapshot and no folder, and does the rest.
    Raises HostError, and changes nothing, when there is no snapshot that could be loaded.
    """
    try:
        made = make_from_snapshot(data, check)
    except HostError as error:
        raise HostError(
            f"Redis's append-only file can't be loaded ({reason}), and no snapshot can take its place ({error})."
            " Redis does not start, and nothing was changed. Put a backup's snapshot there (owner redis) and start"
            f" redis.service; or keep what is before the damage: redis-check-aof --fix {data / FOLDER / MANIFEST};"
            " or begin empty: move both away"
        ) from error
    folder = data / FOLDER
    taken = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime((data / SNAPSHOT).stat().st_mtime))
    if folder.exists():
        aside = data / time.strftime("damaged-%Y%m%dT%H%M%SZ", time.gmtime(now()))
        folder.rename(aside)
        log(
            f"ALARM: Redis's append-only file was damaged ({reason}). It is kept as {aside}; Redis starts with the"
            f" snapshot of {taken}, and what was written after that is only in the kept copy",
            ERROR,
        )
    else:
        log(f"no append-only file: made one from the snapshot of {taken}")
    made.rename(folder)
    sync_folder(data)
    for old in damaged_files(data)[:-MAX_DAMAGED]:
        shutil.rmtree(old)
        log(f"removed {old}: no more than {MAX_DAMAGED} damaged append-only files are kept", ERROR)


def remove_unfinished(data: Path) -> None:
    """Remove what a killed Redis was writing: the next one writes anew, under other names, until the volume is full."""
    for pattern in UNFINISHED:
        for path in data.glob(pattern):
            path.unlink()
            log(f"removed {path}: a killed Redis had not finished it")


def prepare(data: Path, check: Check = check_aof) -> None:
    """Leave what Redis can load, or HostError."""
    remove_unfinished(data)
    manifest = data / FOLDER / MANIFEST
    if manifest.exists():
        reason = damage(manifest, check)
    elif is_unused(data):
        reason = None
    else:
        reason = f"there is no {manifest}"
    if reason:
        fall_back(data, reason, check)


def kept_for_somebody(data: Path) -> list[str]:
    """Say of what is kept of Redis's files, until somebody has looked at it, what happened and where it is."""
    happened = (
        ("was damaged and Redis went on with its snapshot", damaged_files(data)),
        ("ended within a command and Redis cut that off", torn_tails(data)),
    )
    return [f"Redis's append-only file {what}; kept: {', '.join(map(str, kept))}" for what, kept in happened if kept]


def watch_kept(data: Path, sleep: Callable[[float], None] = time.sleep) -> None:
    """Log what is kept of Redis's files, and return when that is no longer the same."""
    kept = kept_for_somebody(data)
    if not kept:
        return
    log(
        f"ALARM: {'. '.join(kept)}. When that was and what it cost: journalctl --unit redis.service. Take what you need"
        " from there and remove it",
        ERROR,
    )
    while kept_for_somebody(data) == kept:
        sleep(WATCH)


def damage_command() -> None:
    """Log what is kept of damaged and torn append-only files, and wait until somebody has removed it."""
    watch_kept(DATA)


def command() -> None:
    """Check Redis's append-only file; if it is damaged, keep it aside and go on with the snapshot."""
    prepare(DATA)
