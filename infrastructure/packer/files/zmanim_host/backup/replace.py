"""Putting a restored cluster and a restored Redis in the place of this machine's.

Both are made and compared beside the live ones first. Then directories change places: what was there stays, whole, in
a directory of its own until somebody removes it, and comes back when the restored one does not start.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from zmanim_host.backup import scratch
from zmanim_host.backup.record import CompletionRecord
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import HostError, log, run, sync_folder
from zmanim_host.postgres import Server
from zmanim_host.systemd import API, POSTGRESQL, REDIS, active_state, systemctl

STORES = (POSTGRESQL, REDIS)
# Their folders on the data volume; each belongs to the user of its name.
FOLDERS = ("postgres", "redis")
# An empty cluster, its write-ahead log, and room to build indexes.
ROOM = 256 << 20


def prepare(record: CompletionRecord, user: str | None, data: Path) -> Scratch:
    """Refuse, or return where the run is to be restored. Raises HostError; nothing has changed then.

    `user` is the one that the scratch servers run as: root has one, and nobody else may do this.
    """
    if user is None:
        raise HostError("--replace has to be run as root")
    state = active_state(API)
    if state not in {"inactive", "failed"}:
        raise HostError(f"{API} is {state}: what it writes would be lost. First: systemctl stop {API}")
    before = place_of_old(record, data)
    if before.exists():
        raise HostError(f"{before} is there, from an earlier restore of this run: look at it, and remove it")
    directory = data / "backup/replace"
    scratch.remove(directory)
    needed = 2 * sum(part.bytes for part in record.databases) + record.redis.bytes + ROOM
    free = shutil.disk_usage(data).free
    if free < needed:
        raise HostError(
            f"{data} has {free >> 20} MiB free, and {needed >> 20} MiB may be needed beside what is there: grow it"
        )
    return scratch.prepare(directory, user)


def place_of_old(record: CompletionRecord, data: Path) -> Path:
    """Return where this machine's data stays when it has given way to that run."""
    return data / f"before-{record.run}"


def analyze(server: Server) -> None:
    """Collect the statistics that a dump does not have: without them the first queries are planned blindly."""
    command = ["vacuumdb", "--all", "--analyze-only", "--quiet", "--no-password"]
    command += [f"--host={server.socket}", f"--username={server.role}"]
    run(command, timeout=3600, user=server.user, environment=server.environment())


def swap(record: CompletionRecord, place: Scratch, data: Path) -> None:
    """Put what was restored into its place and start it; put the old data back when it does not start."""
    # The scratch servers did not sync.
    run(["initdb", "--sync-only", f"--pgdata={place.postgres}"], timeout=1800, user=place.user)
    (place.postgres / "pg_hba.conf").unlink()  # it lets everybody in, and is read by nobody from now on
    for name in FOLDERS:
        run(["chown", "--recursive", f"{name}:{name}", str(place.directory / name)], timeout=600)
    run(["sync", "--file-system", str(place.directory)], timeout=600)
    before = place_of_old(record, data)
    before.mkdir(mode=0o700)
    run(["systemctl", "stop", *STORES], timeout=600)
    for name in FOLDERS:
        exchange(data / name, before / name, place.directory / name)
    sync_folder(before)
    sync_folder(data)
    try:
        run(["systemctl", "start", *STORES], timeout=900)
    except HostError as error:
        systemctl("stop", *STORES)
        for name in FOLDERS:
            if (before / name).exists():
                exchange(data / name, place.directory / name, before / name)
        sync_folder(data)
        before.rmdir()
        systemctl("reset-failed", *STORES)
        run(["systemctl", "start", *STORES], timeout=900)
        raise HostError(f"what was restored does not start, and the old data is back: {error}") from error
    scratch.remove(place.directory)
    log(
        f"run {record.run} is in use. The data before it is kept in {before}; remove that when nobody needs it. Now:"
        f" systemctl start {API}; and if this machine is to go on with these backups: restore.sh --adopt"
    )


def exchange(live: Path, away: Path, new: Path) -> None:
    """Move `live` away, if it is there, and `new` into its place."""
    if live.exists():
        live.rename(away)
    new.rename(live)
