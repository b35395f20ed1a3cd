"""Putting a restored cluster and a restored Redis in the place of this machine's.

Both are made and compared beside the live ones first. Then directories change places (storage/swap.py): what was there
stays, whole, in a directory of its own until somebody removes it, and comes back when the restored one does not start,
or a power cut comes in between.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from zmanim_host.backup import scratch
from zmanim_host.backup.record import CompletionRecord
from zmanim_host.backup.sandbox import give, write_new
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import HostError, log, open_folder, run, sha256
from zmanim_host.postgres import Server
from zmanim_host.storage import redis_files, swap
from zmanim_host.systemd import API, STORES, active_state, systemctl

# Whose the folders of the live servers are.
USERS = {"postgres": "postgres", "redis": "redis"}
# Nobody reads them: the configuration comes with the image. But the server reads postgresql.auto.conf from wherever its
# data is, and what is said in these must not be a stranger's when somebody looks.
OURS = ("postgresql.auto.conf", "postgresql.conf", "pg_hba.conf", "pg_ident.conf")
NOTE = "# Made by a restore, and empty. What is in force is in /etc/zmanim.\n"


def check(record: CompletionRecord, data: Path) -> None:
    """Raise HostError where nothing may be replaced."""
    check_api_is_stopped()
    before = place_of_old(record, data)
    if before.exists():
        raise HostError(f"{before} is there, from an earlier restore of this run: look at it, and remove it")


def check_api_is_stopped() -> None:
    """Raise HostError unless the API is stopped."""
    state = active_state(API)
    if state not in {"inactive", "failed"}:
        raise HostError(f"{API} is {state}: what it writes would be lost. First: systemctl stop {API}")


def place_of_old(record: CompletionRecord, data: Path) -> Path:
    """Return where this machine's data stays when it has given way to that run."""
    return data / swap.before(record.run)


def analyze(place: Scratch, server: Server) -> None:
    """Collect the statistics that a dump does not have: without them the first queries are planned blindly."""
    command = ["vacuumdb", "--all", "--analyze-only", "--quiet", "--no-password"]
    command += [f"--host={server.socket}", f"--username={server.role}"]
    run(place.sandbox.command(*command), timeout=3600, environment=server.environment())


def exchange(record: CompletionRecord, place: Scratch, data: Path, users: Mapping[str, str] = USERS) -> None:
    """Put what was restored into its place and start it; put the old data back when it does not start."""
    # The scratch servers did not sync.
    place.sync()
    # From here on nothing of zmanim-scratch's runs.
    place.sandbox.stop()
    take_over(record, place, users)
    run(["sync", "--file-system", str(place.directory)], timeout=600)
    change_places(record, data)
    scratch.remove(place.directory)
    log(
        f"run {record.run} is in use. The data before it is kept in {place_of_old(record, data)}; remove that when"
        f" nobody needs it. Now: systemctl start {API}; and if this machine is to go on with these backups:"
        " restore.sh --adopt"
    )


def change_places(record: CompletionRecord, data: Path) -> None:
    """Exchange the folders of both stores, which are started again whatever happens.

    Raises HostError when the old data had to come back, and when the API was started since the restore began.
    """
    begun = swap.begin(data, record.run)
    try:
        # Loading may have taken hours. From here on the journal keeps the API from starting.
        check_api_is_stopped()
    except BaseException:
        swap.end(data)
        raise
    try:
        run(["systemctl", "stop", *STORES], timeout=600)
        swap.forward(data, begun)
        run(["systemctl", "start", *STORES], timeout=900)
        swap.decide(data, begun)
    except BaseException as error:
        systemctl("stop", *STORES)
        swap.back(data, begun)
        swap.end(data)
        systemctl("reset-failed", *STORES)
        run(["systemctl", "start", *STORES], timeout=900)
        if not isinstance(error, (HostError, OSError)):
            raise  # SIGTERM, Ctrl-C
        raise HostError(f"what was restored does not start, and the old data is back: {error}") from error
    swap.end(data)


def take_over(record: CompletionRecord, place: Scratch, users: Mapping[str, str]) -> None:
    """Give what was restored to the users of the live servers. Raises HostError when it holds what it must not."""
    give(place.postgres, users["postgres"])
    with open_folder(place.postgres) as folder:
        for name in OURS:
            with suppress(FileNotFoundError):
                os.unlink(name, dir_fd=folder)
            write_new(folder, name, NOTE)
            os.chown(name, *_owner(folder), dir_fd=folder, follow_symlinks=False)
    give(place.redis, users["redis"])
    with open_folder(place.redis) as folder:
        # The file that was compared, and nothing that the second Redis could have left beside it.
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
        if names != [redis_files.SNAPSHOT]:
            raise HostError(
                f"{place.redis} holds more than {redis_files.SNAPSHOT}: nothing of what is restored is used"
            )
        descriptor = os.open(redis_files.SNAPSHOT, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=folder)
        with os.fdopen(descriptor, "rb") as file:
            digest = sha256(file)
        if digest != record.redis.sha256:
            raise HostError("Redis's restored file was changed after it was compared: nothing of it is used")


def _owner(folder: int) -> tuple[int, int]:
    status = os.fstat(folder)
    return status.st_uid, status.st_gid
