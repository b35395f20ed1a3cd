"""Getting a backup back: into scratch servers, compared with its record; or in the place of what is here."""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from zmanim_host.aws import metrics
from zmanim_host.backup import replace, restic, retention, scratch, servers, steps
from zmanim_host.backup.record import TIME, CompletionRecord, from_json
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.retention import Run
from zmanim_host.backup.scratch import Scratch
from zmanim_host.backup.servers import Keys, Server
from zmanim_host.host import HostError, log, run

DIRECTORY = steps.WORK / "scratch"


@dataclass(frozen=True)
class Restored:
    """A restore that came out as its record says: how long it took, and how old its data was when it began."""

    run: str
    seconds: float
    age: float
    rows: int
    keys: int


# ---- Which run ----


def choose(repo: Repository, wanted: str) -> CompletionRecord:
    """Return the record of the run called `wanted`, or of the newest complete one for an empty name.

    Raises HostError for a run that is not there, or was cut short.
    """
    at = steps.now()
    known = restic.runs(repo)
    if wanted:
        found = next((run for run in known if run.id == wanted), None)
        if found is None or found.adoption:
            raise HostError(f"there is no run {wanted} in {repo.location}: restore.sh --list shows them")
    else:
        found = retention.newest_complete(known, at)
        if found is None:
            raise HostError(f"there is no complete run in {repo.location}")
    if found.record is None:
        raise HostError(f"the run {found.id} was cut short: it has no completion record, and nothing of it is restored")
    record = from_json(restic.read(repo, found.record, steps.RECORD))
    if record.run != found.id:
        raise HostError(f"the record of run {found.id} is of run {record.run}")
    return record


def check_versions(record: CompletionRecord, postgresql: str, redis: str) -> None:
    """Raise HostError when the backup is of a newer major version than what is here; an older one can be restored."""
    for name, theirs, ours in (
        ("PostgreSQL", int(record.versions["postgresql"]) // 10000, int(postgresql) // 10000),
        ("Redis", _major(record.versions["redis"]), _major(redis)),
    ):
        if theirs > ours:
            raise HostError(
                f"the backup is of {name} {theirs} and this image has {ours}: take an image that has {theirs}"
            )


def _major(version: str) -> int:
    return int(version.split(".", 1)[0] or 0)


def installed_postgresql() -> str:
    """Return the installed server's version as a number, such as 170012."""
    found = re.search(r"\(PostgreSQL\) (\d+)\.(\d+)", run(["postgres", "--version"], timeout=20).stdout)
    if not found:
        raise HostError("the version of postgres can't be understood")
    return str(int(found[1]) * 10000 + int(found[2]))


def installed_redis() -> str:
    """Return the installed Redis's version."""
    found = re.search(r"v=(\S+)", run(["redis-server", "--version"], timeout=20).stdout)
    return found[1] if found else ""


# ---- Into scratch servers ----


def fill_postgresql(repo: Repository, record: CompletionRecord, server: Server) -> None:
    """Restore roles and every database of a run into an empty server. Raises HostError."""
    roles = restic.read(repo, record.globals.snapshot, "/globals.sql")
    steps.check_globals(roles)
    # The new cluster has this one already.
    query = re.sub(r"^CREATE ROLE postgres;$", "", roles, flags=re.MULTILINE)
    servers.query(server, "postgres", query, timeout=600)
    for part in record.databases:
        restic.read_into(repo, part.snapshot, steps.dump_name(part.name), load_dump(server))
        log(f"restored the database {part.name}")


def load_dump(server: Server) -> Callable[[IO[bytes]], None]:
    """Return what makes a database of a dump, with its own properties, and stops at the first error."""
    command = ["pg_restore", "--exit-on-error", "--clean", "--if-exists", "--create", "--no-password"]
    # From another database than the one that is made anew, even when that is `postgres`.
    command += servers.connection(server, "template1")

    def consume(dump: IO[bytes]) -> None:
        done = subprocess.run(
            command,
            stdin=dump,
            stderr=subprocess.PIPE,
            user=server.user,
            extra_groups=[] if server.user else None,
            check=False,
        )
        if done.returncode:
            raise HostError(f"pg_restore: {done.stderr.decode('utf-8', 'replace').strip()[-1500:]}")

    return consume


def compare_postgresql(record: CompletionRecord, server: Server) -> list[str]:
    """Return in what the restored server differs from the record: nothing, as it should be."""
    wrong = []
    missing = sorted(set(record.globals.roles) - set(servers.roles(server)))
    if missing:
        wrong.append(f"roles are missing: {', '.join(missing)}")
    for part in record.databases:
        found = servers.survey(server, part.name)
        for table in sorted(part.rows.keys() | found.rows.keys()):
            if part.rows.get(table) != found.rows.get(table):
                wrong.append(f"{part.name}: {table} has {found.rows.get(table)} rows, not {part.rows.get(table)}")
        # Their versions are the image's.
        if part.extensions.keys() != found.extensions.keys():
            wrong.append(f"{part.name} has the extensions {sorted(found.extensions)}, not {sorted(part.extensions)}")
    return wrong


def fetch_redis(repo: Repository, record: CompletionRecord, place: Path) -> None:
    """Write a run's RDB file to `place`. Raises HostError."""

    def consume(stream: IO[bytes]) -> None:
        with place.open("wb") as file:
            shutil.copyfileobj(stream, file)

    restic.read_into(repo, record.redis.snapshot, str(steps.WORK / "redis.rdb"), consume)
    with place.open("rb") as file:
        digest = steps.sha256(file)
    if digest != record.redis.sha256:
        raise HostError("Redis's file in the repository is not the one that the record is about")


def compare_redis(record: CompletionRecord, keyspace: str, before: Keys, after: Keys) -> list[str]:
    """Return in what the restored Redis differs from the record.

    `keyspace` is its INFO keyspace, `before` and `after` what redis-check-rdb said of the file around that: keys whose
    time runs out in between may be there or not.
    """
    wrong = []
    told = [(int(keys), int(expires)) for keys, expires in re.findall(r"keys=(\d+),expires=(\d+)", keyspace)]
    expiring = sum(expires for _, expires in told)
    lasting = sum(keys for keys, _ in told) - expiring
    if lasting != record.redis.lasting:
        wrong.append(f"Redis has {lasting} keys without expiry, not {record.redis.lasting}")
    most, least = (record.redis.expiring - keys.expired for keys in (before, after))
    if not least <= expiring <= most:
        wrong.append(f"Redis has {expiring} keys with an expiry, not {least} to {most}")
    return wrong


def fill(repo: Repository, record: CompletionRecord, place: Scratch, finish: Callable[[Server], None]) -> int:
    """Restore a run into `place`, compare it with its record, and stop both servers; return how many keys Redis has.

    `finish` is called with the filled PostgreSQL before that stops. Raises HostError with every difference.
    """
    with scratch.postgresql(place) as server:
        fill_postgresql(repo, record, server)
        wrong = compare_postgresql(record, server)
        finish(server)
    snapshot = place.redis / "dump.rdb"
    fetch_redis(repo, record, snapshot)
    before = servers.rdb_keys(snapshot)
    with scratch.redis(place) as ask:
        keyspace = ask("INFO keyspace")
    wrong += compare_redis(record, keyspace, before, servers.rdb_keys(snapshot))
    if wrong:
        raise HostError(f"the restored run {record.run} is not what its record says: {'; '.join(wrong)}")
    return sum(int(keys) for keys in re.findall(r"keys=(\d+)", keyspace))


def into_scratch(repo: Repository, record: CompletionRecord, directory: Path, began: float) -> Restored:
    """Restore a run into a directory; `began` is time.monotonic() when the restore was asked for."""
    place = scratch.prepare(directory)
    age = (steps.now() - record.started).total_seconds()
    keys = fill(repo, record, place, lambda _: None)
    rows = sum(sum(part.rows.values()) for part in record.databases)
    return Restored(record.run, round(time.monotonic() - began, 1), age, rows, keys)


# ---- The command ----


def parser() -> argparse.ArgumentParser:
    """Return the parser of restore.sh's words."""
    made = argparse.ArgumentParser(prog="restore.sh", description="Restore a backup; by default beside what is live.")
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="show the runs in the repository")
    what.add_argument("--latest", action="store_true", help="restore the newest complete run")
    what.add_argument("--run", default="", metavar="ID", help="restore this run")
    what.add_argument("--adopt", action="store_true", help="go on with these backups from this machine's cluster")
    where = made.add_mutually_exclusive_group()
    where.add_argument("--into-scratch", type=Path, metavar="DIR", help="leave what is restored in DIR")
    where.add_argument("--replace", action="store_true", help="put it in the place of what is here")
    made.add_argument("--yes", action="store_true", help="with --replace: yes, this machine's data gives way")
    made.add_argument("--drill", action="store_true", help="send how long it took and how old the data is as metrics")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


def command(arguments: Sequence[str]) -> None:
    """Restore a backup, list what there is, or adopt it (restore.sh calls it)."""
    began = time.monotonic()
    options = parser().parse_args(list(arguments))
    repo = restic.repository(os.environ)
    restic.check_reachable(repo)
    if options.list:
        show_runs(restic.runs(repo), steps.now(), as_json=options.json)
        return
    if options.adopt:
        steps.adopt(repo)
        return
    if options.replace and not options.yes:
        raise HostError("--replace takes this machine's data out of service: say --yes as well")
    with only_one():
        record = choose(repo, options.run)
        check_versions(record, installed_postgresql(), installed_redis())
        restored = _restore(repo, record, options, began)
    log(f"restored run {restored.run} in {restored.seconds} s: {restored.rows} rows, {restored.keys} keys, as recorded")
    if options.drill:
        told = [metrics.Metric("RestoreDrillSeconds", restored.seconds, "Seconds")]
        told += [metrics.Metric("RestoreDrillDataAge", restored.age, "Seconds")]
        metrics.put(repo.environment, repo.region, told)
    if options.json:
        sys.stdout.write(json.dumps(vars(restored)) + "\n")


def _restore(repo: Repository, record: CompletionRecord, options: argparse.Namespace, began: float) -> Restored:
    if options.replace:
        place = replace.prepare(record)
        age = (steps.now() - record.started).total_seconds()
        keys = fill(repo, record, place, replace.analyze)
        replace.swap(record, place)
        rows = sum(sum(part.rows.values()) for part in record.databases)
        return Restored(record.run, round(time.monotonic() - began, 1), age, rows, keys)
    if options.into_scratch:
        restored = into_scratch(repo, record, options.into_scratch, began)
        log(f"it is in {options.into_scratch}, its servers stopped: a cluster (postgres) and Redis's data (redis)")
        return restored
    scratch.remove(DIRECTORY)
    try:
        return into_scratch(repo, record, DIRECTORY, began)
    finally:
        scratch.remove(DIRECTORY)


@contextmanager
def only_one() -> Iterator[None]:
    """Hold the machine's one lock for restores; HostError when it is held."""
    # The directory itself: a file would belong to whoever was the first, root or the drill.
    held = os.open(steps.WORK, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise HostError("another restore is running on this machine: nothing was done") from None
    finally:
        os.close(held)


def show_runs(runs: Sequence[Run], at: datetime, *, as_json: bool) -> None:
    """Print the runs, the newest first."""
    rows = [
        {
            "run": run.id,
            "time": run.time.strftime(TIME),
            "state": "adoption" if run.adoption else "complete" if run.record else "incomplete",
            "future": retention.is_future(run, at),
            "bytes": run.bytes,
            "system": run.system,
        }
        for run in sorted(runs, key=lambda run: run.time, reverse=True)
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        mark = "  DATED IN THE FUTURE" if row["future"] else ""
        sys.stdout.write(f"{row['run']:<26} {row['time']} {row['state']:<10} {row['bytes']:>15} bytes{mark}\n")
