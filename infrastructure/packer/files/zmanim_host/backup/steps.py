"""The steps of one run of the backup, as backup.sh goes through them: `zmanim-host backup STEP …`.

What one step leaves for the next is in one directory on the data volume, which the next run's first step removes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from zmanim_host.aws import metrics
from zmanim_host.backup import restic, retention, servers
from zmanim_host.backup.record import (
    TIME,
    CompletionRecord,
    DatabasePart,
    GlobalsPart,
    RedisPart,
    database_part,
    globals_part,
    part_to_json,
    redis_part,
    to_json,
)
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.retention import Run
from zmanim_host.host import HostError, log, run, write_whole

WORK = Path("/data/backup")
RECORD = "/record.json"
GLOBALS_END = "-- PostgreSQL database cluster dump complete"
BAKED = Path("/opt/zmanim/baked")


@dataclass(frozen=True)
class Begun:
    """A run that has begun: its id, when, and the cluster that it is of."""

    run: str
    started: datetime
    system_identifier: str


def dump_name(database: str) -> str:
    """Return the name of a database's dump in its snapshot."""
    return f"/{database}.pgdump"


def now() -> datetime:
    """Return the time, in UTC and whole seconds."""
    return datetime.now(timezone.utc).replace(microsecond=0)


# ---- The first step: everything that may refuse ----


def begin(repo: Repository, work: Path = WORK) -> None:
    """Refuse or begin: is S3 there, is the repository ours, is pg_dump the server's."""
    check_versions()
    restic.check_reachable(repo)
    known = restic.open_or_make(repo)
    started = now()
    system = servers.system_identifier(servers.Server())
    check_owner(repo, known, system, started)
    if known:
        # A run that was killed while it pruned has left one that lets nobody in.
        restic.unlock(repo)
    shutil.rmtree(work / "run", ignore_errors=True)
    for file in work.glob("*.rdb"):
        file.unlink()
    (work / "run").mkdir(mode=0o700)
    begun = {
        "run": f"{started.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}",
        "started": started.strftime(TIME),
        "system_identifier": system,
    }
    write_whole(work / "run/begun", json.dumps(begun))
    log(f"run {begun['run']} of cluster {system} to {repo.location}")


def check_versions() -> None:
    """Raise HostError unless pg_dump has the server's major version: another may leave things out without a word."""
    said = run(["pg_dump", "--version"], timeout=20).stdout
    client = re.search(r"\(PostgreSQL\) (\d+)", said)
    server = int(servers.server_version(servers.Server())) // 10000
    if not client or int(client[1]) != server:
        raise HostError(f"pg_dump is {said.strip()!r} and the server has major version {server}: nothing was backed up")


def check_owner(repo: Repository, known: Sequence[Run], system: str, at: datetime) -> None:
    """Raise HostError where the backups are another cluster's: an empty one must not take their places."""
    owner = retention.owner(known, at)
    if owner not in {None, system}:
        raise HostError(
            f"the backups in {repo.location} are of cluster {owner}, and this machine has cluster {system}: nothing was"
            " written and nothing removed. If this machine is to go on with them (after a restore, or with a new"
            " database), adopt them: ./inv backup.adopt (on the machine: /opt/zmanim/restore.sh --adopt). If not, stop"
            " restic-backup.timer here"
        )


def read_begun(work: Path) -> Begun:
    """Return the run that `begin` has begun; HostError when there is none."""
    try:
        told = json.loads((work / "run/begun").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise HostError(f"no run has begun: {error}") from None
    started = datetime.strptime(told["started"], TIME).replace(tzinfo=timezone.utc)
    return Begun(told["run"], started, told["system_identifier"])


# ---- The parts ----


def back_up_database(repo: Repository, database: str, command: Sequence[str], work: Path = WORK) -> None:
    """Count a database's rows and dump it by `command`, both in one exported snapshot; then read the dump back."""
    begun = read_begun(work)
    with servers.exported(servers.Server(), database) as survey:
        stored = restic.store(
            repo,
            tags(begun, f"database={database}"),
            name=dump_name(database),
            command=[*command, f"--snapshot={survey.snapshot}"],
        )
    restic.read_into(repo, stored.snapshot, dump_name(database), read_dump_through)
    part = DatabasePart(database, stored.snapshot, stored.bytes, survey.rows, survey.extensions)
    write_whole(work / f"run/database={database}", part_to_json(part))
    log(f"{database}: {stored.bytes} bytes, {sum(survey.rows.values())} rows in {len(survey.rows)} tables")


def back_up_globals(repo: Repository, command: Sequence[str], work: Path = WORK) -> None:
    """Keep the roles as `command` writes them, and see that they are all there."""
    begun = read_begun(work)
    roles = servers.roles(servers.Server())
    stored = restic.store(repo, tags(begun, "globals"), name="/globals.sql", command=command)
    check_globals(restic.read(repo, stored.snapshot, "/globals.sql"))
    write_whole(work / "run/globals", part_to_json(GlobalsPart(stored.snapshot, stored.bytes, roles)))
    log(f"globals: {stored.bytes} bytes, {len(roles)} roles")


def back_up_redis(repo: Repository, file: Path, work: Path = WORK) -> None:
    """Keep an RDB file that Redis has written, if it is whole."""
    begun = read_begun(work)
    keys = servers.rdb_keys(file)
    with file.open("rb") as stream:
        digest = sha256(stream)
    stored = restic.store(repo, tags(begun, "redis"), name=str(file), file=file)
    restic.read_into(repo, stored.snapshot, str(file), check_digest(digest))
    part = RedisPart(stored.snapshot, stored.bytes, digest, keys.lasting, keys.expiring)
    write_whole(work / "run/redis", part_to_json(part))
    log(f"redis: {stored.bytes} bytes, {keys.lasting} keys without expiry, {keys.expiring} with")


def tags(begun: Begun, part: str) -> list[str]:
    """Return the tags of one snapshot of a run."""
    return [f"run:{begun.run}", f"part:{part}"]


def read_dump_through(dump: IO[bytes]) -> None:
    """Have pg_restore read a dump to its end; --list would look at its beginning only. Raises HostError."""
    done = subprocess.run(["pg_restore", "--file=/dev/null"], stdin=dump, stderr=subprocess.PIPE, check=False)
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip()[-1000:]
        raise HostError(f"the dump in the repository can't be read to its end: {said}")


def check_globals(text: str) -> None:
    """Raise HostError unless the roles' script is whole."""
    if GLOBALS_END not in text:
        raise HostError(f"the roles in the repository are not whole: they lack {GLOBALS_END!r}")


def check_digest(expected: str) -> Callable[[IO[bytes]], None]:
    """Return what raises HostError unless it is given a file of that SHA-256."""

    def consume(stream: IO[bytes]) -> None:
        if sha256(stream) != expected:
            raise HostError("Redis's file in the repository is not what was written there")

    return consume


def sha256(stream: IO[bytes]) -> str:
    """Return the SHA-256 of what is left in a stream."""
    digest = hashlib.sha256()
    for block in iter(lambda: stream.read(1 << 20), b""):
        digest.update(block)
    return digest.hexdigest()


# ---- The last steps ----


def complete(repo: Repository, environ: Mapping[str, str], work: Path = WORK) -> None:
    """Write the completion record: from here on the run counts."""
    begun = read_begun(work)
    there = servers.databases(servers.Server())
    parts = {
        path.name: json.loads(path.read_text("utf-8")) for path in (work / "run").iterdir() if path.name != "begun"
    }
    missing = {"globals", "redis", *(f"database={name}" for name in there)} - parts.keys()
    if missing:
        raise HostError(f"the run lacks {', '.join(sorted(missing))}: it is not complete")
    record = CompletionRecord(
        run=begun.run,
        environment=repo.environment,
        started=begun.started,
        finished=now(),
        image_version=Path(os.path.realpath(BAKED)).name,
        instance_id=environ["INSTANCE_ID"],
        system_identifier=begun.system_identifier,
        databases=tuple(database_part(told) for name, told in sorted(parts.items()) if name.startswith("database=")),
        globals=globals_part(parts["globals"]),
        redis=redis_part(parts["redis"]),
        versions=versions(),
    )
    text = to_json(record)
    marks = [*tags(begun, "record"), f"system:{record.system_identifier}"]
    restic.store(repo, marks, name=RECORD, text=text)
    shutil.rmtree(work / "run")
    size = sum(part.bytes for part in record.databases) + record.globals.bytes + record.redis.bytes
    seconds = (record.finished - record.started).total_seconds()
    log(f"run {record.run} is complete: {size} bytes in {seconds:.0f} s")
    metrics.put(
        repo.environment,
        repo.region,
        [
            metrics.Metric("BackupCompleted", 1, "Count"),
            metrics.Metric("BackupSeconds", seconds, "Seconds"),
            metrics.Metric("BackupBytes", size, "Bytes"),
        ],
    )


def versions() -> dict[str, str]:
    """Return the versions that a restore has to fit."""
    redis = re.search(r"v=(\S+)", run(["redis-server", "--version"], timeout=20).stdout)
    return {
        "postgresql": servers.server_version(servers.Server()),
        "redis": redis[1] if redis else "",
        "restic": restic_version(),
    }


def restic_version() -> str:
    """Return restic's version."""
    return run(["restic", "version"], timeout=60).stdout.split()[1]


def thin_out(repo: Repository) -> None:
    """Remove the runs that nobody needs any longer; on Sundays, read a part of the repository."""
    at = now()
    thinning = retention.plan(restic.runs(repo), at)
    check = retention.is_check_day(at.date())
    for gone, reason in thinning.forget.items():
        log(f"removing run {gone.id}: {reason}")
    # The records first: cut short after them, these runs are incomplete ones, and never a record without its parts.
    records = {run.record for run in thinning.forget if run.record}
    restic.forget(repo, sorted(records))
    restic.forget(repo, [part for run in thinning.forget for part in run.snapshots if part not in records])
    if thinning.forget or check:
        restic.restic(repo, "prune", "--quiet")
    if check:
        part = f"{retention.check_part(at.date())}/{retention.CHECK_PARTS}"
        restic.restic(repo, "check", f"--read-data-subset={part}")
        log(f"checked the repository, and read part {part} of its data")
    if thinning.future:
        names = ", ".join(f"{run.id} ({run.time:%Y-%m-%d %H:%M})" for run in thinning.future)
        raise HostError(
            f"runs in {repo.location} are dated in the future: {names}. This run is complete all the same, and they"
            " take nobody's place. Was a clock wrong, or is this one? docs/backups.md says how to date them anew"
        )


def adopt(repo: Repository) -> None:
    """Write down that this machine's cluster is whose backups these are from now on."""
    restic.check_reachable(repo)
    known = restic.runs(repo)
    at = now()
    # An operator is root, and PostgreSQL lets nobody but the backup's own user be its role.
    user = "zmanim-backup" if os.geteuid() == 0 else None
    system = servers.system_identifier(servers.Server(user=user))
    if retention.owner(known, at) == system:
        log(f"the backups in {repo.location} are of this machine's cluster {system} already")
        return
    run_id = f"{at.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"
    text = json.dumps({"system_identifier": system, "before": retention.owner(known, at), "at": at.strftime(TIME)})
    marks = [f"run:{run_id}", "part:adoption", f"system:{system}"]
    restic.store(repo, marks, name="/adoption.json", text=text)
    log(f"adopted: the backups in {repo.location} go on with cluster {system}")


def command(arguments: Sequence[str]) -> None:
    """Do one step of the backup (backup.sh calls it)."""
    repo = restic.repository(os.environ)
    step, *rest = arguments or ["help"]
    if step == "databases":
        sys.stdout.write("".join(f"{name}\n" for name in servers.databases(servers.Server())))
    elif step == "database" and len(rest) > 2 and rest[1] == "--":
        back_up_database(repo, rest[0], rest[2:])
    elif step == "globals" and len(rest) > 1 and rest[0] == "--":
        back_up_globals(repo, rest[1:])
    elif step == "redis" and len(rest) == 1:
        back_up_redis(repo, Path(rest[0]))
    elif step in {"begin", "complete", "thin-out"} and not rest:
        if step == "begin":
            begin(repo)
        elif step == "complete":
            complete(repo, os.environ)
        else:
            thin_out(repo)
    else:
        raise HostError(
            "zmanim-host backup begin|databases|database NAME -- COMMAND…|globals -- COMMAND…|redis FILE|"
            "complete|thin-out"
        )
