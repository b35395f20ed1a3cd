"""Room that is kept on the data volume for when it is full: a file that goes, so that both stores can start again.

PostgreSQL ends when its log has no room left, and its recovery wants room itself; then it is tried for as long as it
takes and nobody is served. The alarm disk-full is long before that (docs/on-aws.md); this is for when nobody came.
"""

from __future__ import annotations

import os
from pathlib import Path

from zmanim_host.host import ERROR, WARNING, log, sync_folder

NAME = ".zmanim-reserve"
# Bytes: four segments of PostgreSQL's log, of which a recovery and its checkpoint need two.
SIZE = 64 << 20
# Bytes below which a volume is full: one such segment can't be made.
FULL = 16 << 20
# Kept only where there is this much more than it: on a small volume it would be what fills it.
_ROOM = 4


def free_bytes(data: Path) -> int:
    """Return how many bytes of a file system are free for whoever is not root."""
    usage = os.statvfs(data)
    return usage.f_bavail * usage.f_frsize


def keep(data: Path, size: int = SIZE) -> bool:
    """Make the reserve, or what it lacks, where there is room for it; return whether it is there.

    That it can't be made is logged: for want of it no machine has to stay down.
    """
    path = data / NAME
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            if os.fstat(handle).st_blocks * 512 < size:
                if free_bytes(data) < _ROOM * size:
                    raise OSError(f"less than {_ROOM * size >> 20} MiB are free")
                # Only its blocks are set aside, nothing is written to them: this takes no time.
                os.posix_fallocate(handle, 0, size)
                os.fsync(handle)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(handle)
        sync_folder(data)
    except OSError as error:
        log(f"{data} has no reserve of {size >> 20} MiB ({error}): the alarm disk-full is all there is", WARNING)
        return False
    return True


def give_up(data: Path, full: int = FULL) -> bool:
    """Let the reserve go if the volume is full; return whether it went. A boot with room makes it anew."""
    path = data / NAME
    if not path.exists() or free_bytes(data) >= full:
        return False
    path.unlink()
    sync_folder(data)
    log(
        f"{data} is full: the {SIZE >> 20} MiB that were kept for this are given up, so that PostgreSQL and Redis can"
        " start. Make room (what is large there can be deleted now), or make the volume larger and reboot",
        ERROR,
    )
    return True
