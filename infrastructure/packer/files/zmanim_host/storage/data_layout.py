"""What a data volume must hold before PostgreSQL and Redis can start, and whether a cluster may be made on it."""

from __future__ import annotations

import enum
import json
import os
import pwd
import shutil
from collections.abc import Callable
from pathlib import Path

from zmanim_host.host import HostError, log, read_plain, run, sync_folder, write_whole
from zmanim_host.postgres import major_version
from zmanim_host.storage import reserve, swap

DATA = Path("/data")
MARKER = ".zmanim-volume.json"
FORMAT = 1


class Decision(enum.Enum):
    """What to do about the cluster."""

    KEEP = "it is there"
    MAKE = "make one"


def decide(*, version: str | None, entries: int, marked: bool, server_major: int) -> Decision:
    """Decide about the cluster in /data/postgres.

    `version` is the text of PG_VERSION (None without one), `entries` how many files the folder has, `marked` whether
    this volume is known to have had a cluster.

    Raises HostError where a new cluster would hide data, or the server could not read what is there.
    """
    if version is not None:
        if version.strip() != str(server_major):
            raise HostError(
                f"/data/postgres was written by PostgreSQL {version.strip()!r}, and this image has {server_major}:"
                " nothing was changed. Start the image that fits, dump with it, and restore into this one"
            )
        return Decision.KEEP
    if entries:
        raise HostError(
            f"/data/postgres holds {entries} files but no PG_VERSION: it is not a cluster, and is left as it is"
        )
    if marked:
        raise HostError(
            "this volume had a cluster once and has none now: restore it from a backup"
            f" (or remove /data/{MARKER} to begin with an empty database)"
        )
    return Decision.MAKE


def is_marked(data: Path) -> bool:
    """Return whether the volume's marker says that a cluster was made on it; HostError when it can't be understood."""
    path = data / MARKER
    if not path.exists():
        return False
    try:
        marker = json.loads(path.read_text("utf-8"))
        known, cluster = marker["format"] == FORMAT, marker["cluster"]
    except (ValueError, KeyError, TypeError):
        raise HostError(f"{path} can't be understood: this volume is not touched") from None
    if not known:
        raise HostError(f"{path} is of another format: this volume belongs to a newer image")
    return bool(cluster)


def initdb_command(place: Path, *options: str) -> list[str]:
    """Return the command that makes a cluster as this image's are."""
    return [
        "initdb",
        f"--pgdata={place}",
        "--encoding=UTF8",
        # Independent of the C library's collations: an image with another glibc reads the same order.
        "--locale-provider=builtin",
        "--locale=C.UTF-8",
        "--data-checksums",
        "--username=postgres",
        *options,
    ]


def make_cluster(data: Path) -> None:
    """Make a cluster beside its place, then move it there with one rename.

    A power cut before the rename leaves no half cluster, one after it a whole one.
    """
    unfinished = data / ".postgres.unfinished"
    if unfinished.exists():
        shutil.rmtree(unfinished)
    make_folder(unfinished, "postgres")
    # One sync of the whole file system instead of a thousand of single files; it holds nothing else yet.
    run(initdb_command(unfinished, "--auth=peer", "--sync-method=syncfs"), timeout=120, user="postgres")
    unfinished.replace(data / "postgres")
    sync_folder(data)
    log("made a new PostgreSQL cluster")


def make_folder(path: Path, owner: str) -> None:
    """Make a folder that only `owner` can enter, or give an existing one to it."""
    account = pwd.getpwnam(owner)
    path.mkdir(mode=0o700, exist_ok=True)
    os.chown(path, account.pw_uid, account.pw_gid)


def lay_out(data: Path) -> None:
    """Bring a mounted data volume into the form that the services expect."""
    swap.recover(data)
    place = data / "postgres"
    # PostgreSQL's user made it, and can put a link there.
    version = read_plain(place, "PG_VERSION", 100)
    decision = decide(
        version=None if version is None else version.decode("ascii", "replace"),
        entries=len(list(place.iterdir())) if place.exists() else 0,
        marked=is_marked(data),
        server_major=major_version("postgres"),
    )
    make_folder(data / "redis", "redis")
    make_folder(data / "backup", "zmanim-backup")
    if decision is Decision.MAKE:
        make_cluster(data)
    if not is_marked(data):
        write_whole(data / MARKER, json.dumps({"format": FORMAT, "cluster": True}) + "\n")
        sync_folder(data)
    reserve.keep(data)


def prepare(data: Path, is_mounted: Callable[[Path], bool] = os.path.ismount) -> None:
    """Grow the file system of a data volume and lay it out; HostError when none is mounted."""
    if not is_mounted(data):
        raise HostError(f"{data} is not mounted: nothing is written to the root disk")
    # A no-op at full size.
    run(["xfs_growfs", str(data)], timeout=60)
    lay_out(data)


def command() -> None:
    """Grow the data volume's file system and make what it lacks."""
    prepare(DATA)
