"""Getting a backup back: into scratch servers, compared with its record; or in the place of what is here."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

from zmanim_host import limits
from zmanim_host.aws import metrics
from zmanim_host.backup import loading, retention, sandbox, scratch, steps
from zmanim_host.backup import replace as in_place
from zmanim_host.backup.record import TIME, CompletionRecord, from_json, located
from zmanim_host.backup.restic import Repository, repository
from zmanim_host.backup.retention import Run
from zmanim_host.backup.scratch import Scratch
from zmanim_host.backup.steps import Backup
from zmanim_host.host import WARNING, HostError, locked, log
from zmanim_host.postgres import Server, major_version
from zmanim_host.storage import redis_files, swap, turn
from zmanim_host.storage.data_layout import DATA
from zmanim_host.storage.redis_files import Keys
from zmanim_host.systemd import systemctl

# Who talks to the repository, whoever has asked for it.
BACKUP_USER = "zmanim-backup"
# What a backup starts by itself when it is done.
PROOF = "backup-proof.service"


@dataclass(frozen=True)
class Restored:
    """A restore that came out as its record says: how long it took, and how old its data was when it began."""

    run: str
    seconds: float
    age: float
    rows: int
    keys: int


@dataclass(frozen=True)
class Filled:
    """What scratch servers were filled with: how many keys Redis has, and whether the schema was compared, too."""

    keys: int
    schema_compared: bool


# An empty cluster, its write-ahead log, and room to build indexes.
ROOM = 256 << 20


# ---- Which run ----


def choose(repo: Repository, wanted: str, at: datetime) -> CompletionRecord:
    """Return the record of the run called `wanted`, or of the newest complete one (at `at`) for an empty name.

    Raises HostError for a run that is not there, or was cut short.
    """
    runs = repo.runs()
    named = next((run for run in runs if run.id == wanted), None)
    chosen = named if wanted else retention.newest_complete(runs, at)
    if chosen is None:
        what = f"run {wanted}" if wanted else "complete run"
        raise HostError(f"there is no {what} in {repo.location}: restore.sh --list shows what there is")
    return read_record(repo, chosen)


def read_record(repo: Repository, run: Run) -> CompletionRecord:
    """Return a run's record; HostError for an adoption, for a run that was cut short, and for another one's record."""
    if run.adoption:
        raise HostError(f"{run.id} is an adoption: it says whose the backups are, and there is nothing to restore")
    if run.record is None:
        raise HostError(f"the run {run.id} was cut short: it has no completion record, and nothing is restored")
    record = located(from_json(repo.read(run.record, steps.RECORD)), dict(run.parts), run.time)
    swap.check_run(record.run)
    if record.run != run.id:
        raise HostError(f"the record of run {run.id} is of run {record.run}")
    return record


def check_versions(record: CompletionRecord, postgresql: int, redis: str) -> None:
    """Raise HostError when the backup is of a newer major version than what is here; an older one can be restored."""
    for name, theirs, ours in (
        ("PostgreSQL", int(record.versions["postgresql"]) // 10000, postgresql),
        ("Redis", _major(record.versions["redis"]), _major(redis)),
    ):
        if theirs > ours:
            raise HostError(
                f"the backup is of {name} {theirs} and this image has {ours}: take an image that has {theirs}"
            )


def _major(version: str) -> int:
    return int(version.split(".", 1)[0] or 0)


# ---- Into scratch servers ----


def fill(
    repo: Repository, record: CompletionRecord, place: Scratch, finish: Callable[[Scratch, Server], None] | None
) -> Filled:
    """Restore a run into `place`, compare it with its record, and stop both servers.

    `finish` is called with the filled PostgreSQL before that stops. Raises HostError with every difference.
    """
    with place.running_postgresql() as server:
        schema_compared = record.versions["postgresql"] == server.version()
        differences = loading.Loader(repo, record, place, server, schema_compared).load()
        if finish:
            finish(place, server)
    digests: list[str] = []
    repo.read_into(
        record.redis.snapshot, str(steps.WORK / "redis.rdb"), lambda stream: digests.append(place.receive(stream))
    )
    if digests[-1] != record.redis.sha256:
        raise HostError("Redis's file in the repository is not the one that the record is about")
    before = place.keys()
    with place.running_redis() as ask:
        keyspace = ask("INFO keyspace")
    differences += compare_redis(record, keyspace, before, place.keys())
    place.sandbox.stop()
    if differences:
        raise HostError(f"the restored run {record.run} is not what its record says: {'; '.join(differences)}")
    return Filled(sum(int(keys) for keys in re.findall(r"keys=(\d+)", keyspace)), schema_compared)


def compare_redis(record: CompletionRecord, keyspace: str, before: Keys, after: Keys) -> list[str]:
    """Return in what the restored Redis differs from the record.

    `keyspace` is its INFO keyspace, `before` and `after` what redis-check-rdb said of the file around that: keys whose
    time runs out in between may be there or not.
    """
    differences = []
    counts = [(int(keys), int(expires)) for keys, expires in re.findall(r"keys=(\d+),expires=(\d+)", keyspace)]
    expiring = sum(expires for _, expires in counts)
    lasting = sum(keys for keys, _ in counts) - expiring
    if lasting != record.redis.lasting:
        differences.append(f"Redis has {lasting} keys without expiry, not {record.redis.lasting}")
    most, least = (record.redis.expiring - keys.expired for keys in (before, after))
    if not least <= expiring <= most:
        differences.append(f"Redis has {expiring} keys with an expiry, not {least} to {most}")
    return differences


# ---- The command ----


def mark_nothing(record: CompletionRecord) -> None:
    """Leave a proven run as it is."""
    log(f"run {record.run} came out as recorded")


@dataclass(frozen=True)
class Restore:
    """Where a restore comes from, the data volume that it goes to, and the user that what is restored runs as."""

    repository: Repository
    data: Path = DATA
    user: str = sandbox.USER
    now: Callable[[], datetime] = steps.now
    # Writes down that a run is proven.
    mark: Callable[[CompletionRecord], None] = mark_nothing
    usage: Callable[[Path], limits.Usage] = shutil.disk_usage

    def prove(self, options: argparse.Namespace, seconds: int) -> None:
        """Restore the newest run if it has to be proven; without room, or after `seconds`, say that it is put off."""
        reason = self.why_due()
        if not reason:
            log("nothing has to be proven: the last proof speaks for the newest run")
            return
        log(f"the newest run has to be proven: {reason}")
        try:
            with limits.time_limit(seconds):
                self.run(options)
        except limits.PutOff as error:
            log(f"the newest run is not proven, that is put off: {error}", WARNING)
            self._send(metrics.Metric("ProofPutOff", 1, "Count"))

    def why_due(self) -> str:
        """Return why the newest run has to be proven, or nothing. Raises HostError."""
        runs, at = self.repository.runs(), self.now()
        newest, proven = retention.newest_complete(runs, at), retention.newest_proven(runs)
        if newest is None:
            return ""
        last = None
        if proven and proven.proven:
            last = retention.Proven(read_record(self.repository, proven), proven.proven)
        return retention.why_due(read_record(self.repository, newest), last, at)

    def _send(self, *results: metrics.Metric) -> None:
        metrics.put(self.repository.environment, self.repository.region, results)

    def run(self, options: argparse.Namespace) -> None:
        """Restore the run that the options name to where they say, and report it."""
        began = time.monotonic()
        with turn.taken(self.data / "backup"):
            swap.check_none(self.data)
            record = choose(self.repository, options.run, self.now())
            age = (self.now() - record.started).total_seconds()
            try:
                check_versions(record, major_version("postgres"), redis_files.installed_version())
                filled = self.restore(record, options)
            except (LookupError, ValueError, TypeError) as error:
                # Whoever wrote it could write anything; no restore of a run of ours ends like this.
                raise HostError(
                    f"the run {record.run} can't be understood ({error!r}): nothing of it is used"
                ) from error
            if options.drill and filled.schema_compared:
                self.mark(record)
            elif options.drill:
                log(f"run {record.run} is of another version of PostgreSQL, and not marked as proven", WARNING)
        rows = sum(sum(part.rows.values()) for part in record.databases)
        restored = Restored(record.run, round(time.monotonic() - began, 1), age, rows, filled.keys)
        log(f"restored run {record.run} in {restored.seconds} s: {rows} rows, {filled.keys} keys, as recorded")
        if options.drill:
            seconds = metrics.Metric("RestoreDrillSeconds", restored.seconds, "Seconds")
            self._send(seconds, metrics.Metric("RestoreDrillDataAge", age, "Seconds"))
        if options.json:
            sys.stdout.write(json.dumps(vars(restored)) + "\n")

    def restore(self, record: CompletionRecord, options: argparse.Namespace) -> Filled:
        """Restore a run to where the options say; return what it was.

        Half a restore goes away again, whatever ended it: an error, SIGTERM, Ctrl-C.
        """
        directory = options.into_scratch or self.data / swap.RESTORE
        if not options.into_scratch:
            scratch.remove(directory)
        limits.check_room(needed_room(record), directory, self.usage)
        if options.replace:
            in_place.check(record, self.data)
        place = scratch.prepare(directory, self.user)
        whole = False
        try:
            place.sandbox.limit()
            with limits.room_kept(directory, place.sandbox.stop, self.usage):
                filled = self.fill(record, place, in_place.analyze if options.replace else None)
            if options.replace:
                in_place.exchange(record, place, self.data)
            whole = bool(options.into_scratch)
        finally:
            if not whole:
                scratch.remove(directory)
        if whole:
            log(f"in {directory}: PostgreSQL's data directory (postgres) and Redis's (redis); both servers are stopped")
        return filled

    def fill(
        self, record: CompletionRecord, place: Scratch, finish: Callable[[Scratch, Server], None] | None
    ) -> Filled:
        """Restore a run into scratch servers, as `fill` does."""
        return fill(self.repository, record, place, finish)


def needed_room(record: CompletionRecord) -> int:
    """Return how many bytes a restore of a run may take."""
    # A dump is not compressed; its indexes may take as much again.
    return 2 * sum(part.bytes for part in record.databases) + record.redis.bytes + ROOM


def show_runs(runs: Sequence[Run], at: datetime, *, as_json: bool) -> None:
    """Print the runs, the newest first."""
    rows = [
        {
            "run": run.id,
            "time": run.time.strftime(TIME),
            "state": "adoption" if run.adoption else "complete" if run.record else "incomplete",
            "future": retention.is_future(run, at),
            "proven": run.proven.strftime(TIME) if run.proven else "",
            "bytes": run.bytes,
            "system": run.system,
            "volume": run.volume,
        }
        for run in sorted(runs, key=lambda run: run.time, reverse=True)
    ]
    if as_json:
        sys.stdout.write(json.dumps(rows) + "\n")
        return
    for row in rows:
        future = "  DATED IN THE FUTURE" if row["future"] else ""
        proven = f"  proven {row['proven']}" if row["proven"] else "  not proven" if row["state"] == "complete" else ""
        line = f"{row['run']:<26} {row['time']} {row['state']:<10} {row['bytes']:>15} bytes{proven}{future}"
        sys.stdout.write(f"{line}\n")


def utc(text: str) -> datetime:
    """Return the time that a person gives; ValueError for another form."""
    return datetime.strptime(text, "%Y-%m-%d %H:%M:%S").replace(tzinfo=timezone.utc)


def parser() -> argparse.ArgumentParser:
    """Return the parser of restore.sh's words."""
    made = argparse.ArgumentParser(prog="restore.sh", description="Restore a backup; by default beside what is live.")
    what = made.add_mutually_exclusive_group(required=True)
    what.add_argument("--list", action="store_true", help="show the runs in the repository")
    what.add_argument("--latest", action="store_true", help="restore the newest complete run")
    what.add_argument("--run", default="", metavar="ID", help="restore this run")
    what.add_argument("--adopt", action="store_true", help="go on with these backups from this machine's cluster")
    what.add_argument("--redate", default="", metavar="ID", help="give this run another time: its machine's was wrong")
    made.add_argument("--date", type=utc, metavar="'YYYY-MM-DD HH:MM:SS'", help="with --redate: which time, in UTC")
    where = made.add_mutually_exclusive_group()
    where.add_argument("--into-scratch", type=Path, metavar="DIR", help="leave what is restored in DIR")
    where.add_argument("--replace", action="store_true", help="put it in the place of what is here")
    made.add_argument("--yes", action="store_true", help="with --replace: yes, this machine's data gives way")
    made.add_argument("--drill", action="store_true", help="send how long it took and how old the data is as metrics")
    made.add_argument("--if-due", action="store_true", help="with --drill: only when the newest run has to be proven")
    made.add_argument("--json", action="store_true", help="print the result as JSON")
    return made


def command(arguments: Sequence[str], *, uid: int | None = None) -> None:
    """Restore a backup, list what there is, or adopt it (restore.sh calls it)."""
    options = parser().parse_args(list(arguments))
    if (os.geteuid() if uid is None else uid) != 0:
        raise HostError("a restore is root's to start: it has users of its own for everything that it does")
    repo = as_backup_user(repository(os.environ), os.environ)
    if options.replace and not options.yes:
        raise HostError("--replace takes this machine's data out of service: say --yes as well")
    if options.redate and options.date is None:
        raise HostError("--redate: say --date 'YYYY-MM-DD HH:MM:SS' as well, in UTC")
    repo.check_reachable()
    if options.list:
        show_runs(repo.runs(), steps.now(), as_json=options.json)
        return
    # An operator is root, and PostgreSQL lets nobody but the backup's own user be its role.
    backup = Backup(repo, os.environ["INSTANCE_ID"], replace(steps.LIVE, user=BACKUP_USER))
    if not options.drill:
        systemctl("stop", PROOF)  # a person is served first
    if options.adopt:
        backup.adopt()
    elif options.redate:
        backup.redate(options.redate, options.date)
    else:
        handle_signals()
        restoring = Restore(repo, mark=backup.mark_proven)
        if options.if_due:
            restoring.prove(options, int(os.environ["BACKUP_PROOF_SECONDS"]))
        else:
            restoring.run(options)


def as_backup_user(repo: Repository, environ: Mapping[str, str]) -> Repository:
    """Return the repository as zmanim-backup uses it: root itself runs no program on what is stored there.

    The password goes by the environment of restic alone; the file that has it is root's.
    """
    return replace(
        repo, user=BACKUP_USER, password=Path(environ["RESTIC_PASSWORD_FILE"]).read_text("utf-8").strip("\n")
    )


# systemd's, the end of an ssh session, Ctrl-C.
SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


def handle_signals() -> None:
    """End as by an error when somebody ends this program: what was begun is undone, and no second signal disturbs."""

    def end(number: int, _: object) -> None:
        for each in SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in SIGNALS:
        signal.signal(each, end)


def clean(data: Path) -> None:
    """End and remove what a restore has left that was killed; nothing while one is running or may have to be undone."""
    with suppress(BlockingIOError), locked(data / "backup", wait=False):
        try:
            swap.check_none(data)
        except HostError as error:
            log(str(error), WARNING)
            return
        scratch.remove(data / swap.RESTORE)


def clean_command() -> None:
    """Remove what a drill or a proof has left."""
    clean(DATA)
