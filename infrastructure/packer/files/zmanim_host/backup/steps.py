"""The steps of one run of the backup, as backup.sh goes through them: `zmanim-host backup STEP …`.

What one step leaves for the next is in one directory on the data volume, which the next run's first step removes.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import IO

from zmanim_host.aws import metrics
from zmanim_host.backup import dump, retention, sql_text, superusers
from zmanim_host.backup.record import (
    TIME,
    CompletionRecord,
    DatabasePart,
    GlobalsPart,
    RedisPart,
    from_json,
    parse,
    to_json,
)
from zmanim_host.backup.restic import Repository, repository
from zmanim_host.backup.retention import Owner, Run
from zmanim_host.backup.roles import BACKUP, whole
from zmanim_host.environment import PASSING
from zmanim_host.host import WARNING, HostError, log, run, sha256, write_whole
from zmanim_host.postgres import HOME, Server, digest, major_version
from zmanim_host.storage import redis_files, swap, turn
from zmanim_host.storage.volume import ID_FILE

WORK = Path("/data/backup")
RECORD = "/record.json"
# Says that the last backup's run is complete, whatever has failed after that: a proof follows (backup-proof.service).
COMPLETE = "complete"
# What one step leaves for the last one to tell.
SUPERUSERS = "superusers"
BAKED = Path("/opt/zmanim/baked")
LIVE = Server(role=BACKUP)


@dataclass(frozen=True)
class Begun:
    """A run that has begun: its id, when, and the cluster that it is of."""

    run: str
    started: datetime
    system_identifier: str

    def tags(self, part: str) -> list[str]:
        """Return the tags of the run's snapshot of one part."""
        return [f"run:{self.run}", f"part:{part}"]


def now() -> datetime:
    """Return the time, in UTC and whole seconds."""
    return datetime.now(timezone.utc).replace(microsecond=0)


def run_id(at: datetime) -> str:
    """Return a name for a run that begins now: no two machines give the same one."""
    return f"{at.strftime('%Y%m%dT%H%M%SZ')}-{secrets.token_hex(3)}"


def image_version() -> str:
    """Return the version of this machine's image."""
    return Path(os.path.realpath(BAKED)).name


def dump_name(database: str) -> str:
    """Return the name of a database's dump in its snapshot."""
    return f"/{database}.pgdump"


@dataclass(frozen=True)
class Backup:
    """What the steps have in common: the repository, the server, this instance, and where steps leave their parts."""

    repository: Repository
    instance: str
    server: Server = LIVE
    work: Path = WORK
    now: Callable[[], datetime] = now
    volume_file: Path = ID_FILE

    # ---- The first step: everything that may refuse ----

    def begin(self) -> list[str]:
        """Refuse, or begin and return the databases: is pg_dump the server's, is S3 there, is the repository ours."""
        swap.check_none(self.work.parent)
        self.check_version()
        databases = self.server.databases()
        self.repository.check_reachable()
        runs = self.repository.open_or_make()
        started, system = self.now(), self.server.system_identifier()
        self.check_owner(runs, self.ours(system))
        if runs:
            # A run that was killed while it pruned has left one that lets nobody in.
            self.repository.unlock()
        shutil.rmtree(self.work / "run", ignore_errors=True)
        (self.work / "lock").unlink(missing_ok=True)  # of images that locked a file in it
        for file in self.work.glob("*.rdb"):
            file.unlink()
        (self.work / "run").mkdir(mode=0o700)
        begun = {"run": run_id(started), "started": started.strftime(TIME), "system_identifier": system}
        write_whole(self.work / "run/begun", json.dumps(begun))
        log(f"run {begun['run']} of cluster {system} to {self.repository.location}")
        return databases

    def check_version(self) -> None:
        """Raise HostError unless pg_dump has the server's major version: another may leave things out in silence."""
        client, server = major_version("pg_dump"), int(self.server.version()) // 10000
        if client != server:
            raise HostError(
                f"pg_dump has major version {client} and the server has major version {server}: nothing was backed up"
            )

    def ours(self, system: str) -> Owner:
        """Return who this machine is to a repository: its cluster `system`, on the volume that it found at boot."""
        return Owner(system, self.volume_file.read_text("ascii").strip() if self.volume_file.exists() else "")

    def check_owner(self, runs: Sequence[Run], ours: Owner) -> None:
        """Raise HostError where the backups are another's: an empty cluster must not take their places, nor a copy."""
        owner = retention.owner(runs, self.now())
        if owner is None or owner.lets(ours):
            return
        raise HostError(
            f"the backups in {self.repository.location} {owner.refusal(ours)}, adopt them: ./inv backup.adopt (on the"
            " machine: /opt/zmanim/restore.sh --adopt). If not, stop restic-backup.timer here"
        )

    def begun(self) -> Begun:
        """Return the run that `begin` has begun; HostError when there is none."""
        try:
            return parse(Begun, json.loads((self.work / "run/begun").read_text("utf-8")))
        except (OSError, ValueError) as error:
            raise HostError(f"no run has begun: {error}") from None

    # ---- The parts ----

    def back_up_database(self, database: str, command: Sequence[str]) -> None:
        """Dump a database by `command`, in the snapshot in which it was looked at; read the dump back, counting.

        PostgreSQL's own is no part of a run while it holds nothing. When it does, a restore refuses the run by name.
        """
        begun, part, name = self.begun(), f"database={database}", dump_name(database)
        if database == HOME and holds_nothing(self.server, database):
            self._finish(part, None)
            return
        environment = self.server.environment(database)
        with self.server.exported(database) as survey:
            schema = digest(self.server.schema(database, survey.snapshot))
            dumping = [*command, f"--snapshot={survey.snapshot}"]
            stored = self.repository.store(begun.tags(part), name=name, command=dumping, environment=environment)
        counted: dict[str, int] = {}
        self.repository.read_into(stored.snapshot, name, lambda archive: counted.update(count_to_the_end(archive)))
        # What an extension keeps for itself is in the dump too, and not among the names.
        rows = {table: counted.get(table, 0) for table in survey.rows}
        made = DatabasePart(database, stored.snapshot, stored.bytes, rows, survey.extensions)
        self._finish(part, replace(made, schema=schema, superusers=superusers.found(self.server, database)))
        log(f"{database}: {stored.bytes} bytes, {sum(rows.values())} rows in {len(rows)} tables")

    def back_up_globals(self, command: Sequence[str]) -> None:
        """Keep the roles as `command` writes them, for the record, and see that they are all there."""
        self.begun()
        roles = self.server.roles()
        sql = whole(run(command, timeout=600, environment=self.server.environment()).stdout)
        self._finish("globals", GlobalsPart(roles, digest(sql), sql))
        log(f"globals: {len(roles)} roles")

    def back_up_redis(self, file: Path) -> None:
        """Keep an RDB file that Redis has written, if it is whole."""
        begun, keys = self.begun(), redis_files.rdb_keys(file)
        with file.open("rb") as stream:
            written = sha256(stream)
        stored = self.repository.store(begun.tags("redis"), name=str(file), file=file)
        digests: list[str] = []
        self.repository.read_into(stored.snapshot, str(file), lambda stream: digests.append(sha256(stream)))
        if digests[-1] != written:
            raise HostError("Redis's file in the repository is not what was written there")
        self._finish("redis", RedisPart(stored.snapshot, stored.bytes, written, keys.lasting, keys.expiring))
        log(f"redis: {stored.bytes} bytes, {keys.lasting} keys without expiry, {keys.expiring} with")

    def _finish(self, name: str, part: DatabasePart | GlobalsPart | RedisPart | None) -> None:
        write_whole(self.work / "run" / name, json.dumps(part and asdict(part)))

    # ---- The last step ----

    def complete(self) -> None:
        """Write the completion record: from here on the run counts. Then see to the runs before it."""
        begun = self.begun()
        # A run of hours: somebody may have adopted the backups meanwhile, and has the last word.
        system = self.server.system_identifier()
        if system != begun.system_identifier:
            raise HostError(
                f"this run began with cluster {begun.system_identifier}, and this machine has cluster {system} now: its"
                " parts are of two, and it gets no record"
            )
        ours, runs = self.ours(system), self.repository.runs()
        self.check_owner(runs, ours)
        files = (path for path in (self.work / "run").iterdir() if path.name != "begun")
        parts = {path.name: json.loads(path.read_text("utf-8")) for path in files}
        missing = {"globals", "redis", *(f"database={name}" for name in self.server.databases())} - parts.keys()
        if missing:
            raise HostError(f"the run lacks {', '.join(sorted(missing))}: it is not complete")
        record = CompletionRecord(
            run=begun.run,
            environment=self.repository.environment,
            started=begun.started,
            finished=self.now(),
            image_version=image_version(),
            instance_id=self.instance,
            system_identifier=begun.system_identifier,
            databases=tuple(
                parse(DatabasePart, part)
                for name, part in sorted(parts.items())
                if part and name.startswith("database=")
            ),
            globals=parse(GlobalsPart, parts["globals"]),
            redis=parse(RedisPart, parts["redis"]),
            versions={"postgresql": self.server.version(), "redis": redis_files.installed_version()},
            volume=ours.volume,
        )
        stored = self.repository.store([*begun.tags("record"), *ours.tags()], name=RECORD, text=to_json(record))
        if record.environment != PASSING:  # verify-ami restores what it has backed up there
            (self.work / COMPLETE).touch()
        others = [each for each in runs if each.id != record.run]
        self._note_superusers(record, others)
        shutil.rmtree(self.work / "run")
        kept: list[DatabasePart | RedisPart] = [*record.databases, record.redis]
        size = sum(part.bytes for part in kept)
        seconds = (record.finished - record.started).total_seconds()
        log(f"run {record.run} is complete: {size} bytes in {seconds:.0f} s")
        metrics.put(
            self.repository.environment,
            self.repository.region,
            [
                metrics.Metric("BackupCompleted", 1, "Count"),
                metrics.Metric("BackupSeconds", seconds, "Seconds"),
                metrics.Metric("BackupBytes", size, "Bytes"),
            ],
        )
        snapshots = (*(part.snapshot for part in kept), stored.snapshot)
        this = Run(record.run, self.now(), snapshots, stored.snapshot, system=ours.system, volume=ours.volume)
        self.apply_retention([*others, this])

    def _note_superusers(self, record: CompletionRecord, others: Sequence[Run]) -> None:
        """Leave for the end what no restore will bring back, and was not in the run before."""
        every = superusers.of_record(record)
        if not every:
            return
        for each in every:
            log(f"only a superuser can have made this, and no restore brings it back: {each}", WARNING)
        before = retention.newest_complete(others, self.now())
        known = from_json(self.repository.read(before.record, RECORD)) if before and before.record else None
        added = sorted(set(every) - set(superusers.of_record(known) if known else ()))
        if added:
            write_whole(self.work / SUPERUSERS, "; ".join(added))

    def apply_retention(self, runs: Sequence[Run]) -> None:
        """Remove the runs that nobody needs any longer; on Sundays, read a part of the repository."""
        at = self.now()
        plan = retention.plan(runs, at)
        check = retention.is_check_day(at.date()) and self.repository.environment != PASSING
        for expired, reason in plan.forget.items():
            log(f"removing run {expired.id}: {reason}")
        # The records first: cut short after them, these runs are incomplete ones, and never a record without its parts.
        records = {expired.record for expired in plan.forget if expired.record}
        parts = [part for expired in plan.forget for part in expired.snapshots if part not in records]
        self.repository.forget(sorted(records))
        self.repository.forget(parts)
        if plan.forget or check:
            self.repository.restic("prune", "--quiet")
        if check:
            part = f"{retention.check_part(at.date())}/{retention.CHECK_PARTS}"
            self.repository.restic("check", f"--read-data-subset={part}")
            log(f"checked the repository, and read part {part} of its data")
        added = self.work / SUPERUSERS
        if added.exists():
            text = added.read_text("utf-8")
            added.unlink()
            raise HostError(
                f"this run is complete, but no restore brings this back, as only a superuser can have made it: {text}."
                " Told once. docs/backups.md says how to bring it back on purpose"
            )
        if plan.future:
            names = ", ".join(f"{future.id} ({future.time:%Y-%m-%d %H:%M})" for future in plan.future)
            raise HostError(
                f"runs in {self.repository.location} are dated in the future: {names}. This run is complete all the"
                " same, and they take nobody's place. Was a clock wrong, or is this one? Dated anew they are by"
                f" /opt/zmanim/restore.sh --redate {plan.future[0].id} --date '2026-11-24 03:00:00' (UTC)"
            )

    def mark_proven(self, record: CompletionRecord) -> None:
        """Write down that a run was restored and came out as recorded; not into a repository that is another's."""
        ours = self.ours(self.server.system_identifier())
        owner = retention.owner(self.repository.runs(), self.now())
        if owner is None or not owner.lets(ours):
            log(f"run {record.run} is proven, and not marked as such: these backups are another cluster's")
            return
        text = json.dumps({"run": record.run, "at": self.now().strftime(TIME), "image_version": image_version()})
        self.repository.store([f"run:{record.run}", f"part:{retention.PROOF}"], name="/proof.json", text=text)

    def redate(self, name: str, at: datetime) -> None:
        """Give a run another time, as one whose machine had a wrong clock; its parts first, for the record decides.

        When it was proven stays, unless that is in the future as well. Cut short, it is done again. Raises HostError.
        """
        with turn.taken(self.work):
            self.repository.check_reachable()
            known = next((each for each in self.repository.runs() if each.id == name), None)
            if known is None:
                raise HostError(f"there is no run {name} in {self.repository.location}: restore.sh --list shows them")
            if at > self.now():
                raise HostError(f"{at:%Y-%m-%d %H:%M:%S} is in the future: nothing was changed")
            proofs = {snapshot for part, snapshot in known.parts if part == retention.PROOF}
            stay = proofs if known.proven and known.proven <= self.now() else set()
            for snapshot in sorted(set(known.snapshots) - stay, key=lambda each: (each == known.record, each)):
                self.repository.redate(snapshot, at)
            log(f"the run {name} is dated {at:%Y-%m-%d %H:%M:%S} now; it was {known.time:%Y-%m-%d %H:%M:%S}")

    def adopt(self) -> None:
        """Write down that this machine's cluster is whose backups these are from now on; not beside a run."""
        with turn.taken(self.work):
            self._adopt()

    def _adopt(self) -> None:
        self.repository.check_reachable()
        at, ours = self.now(), self.ours(self.server.system_identifier())
        owner = retention.owner(self.repository.runs(), at)
        if owner and owner.lets(ours):
            log(f"the backups in {self.repository.location} are of this machine's cluster {ours.system} already")
            return
        text = json.dumps({**asdict(ours), "before": asdict(owner) if owner else None, "at": at.strftime(TIME)})
        tags = [f"run:{run_id(at)}", "part:adoption", *ours.tags()]
        self.repository.store(tags, name="/adoption.json", text=text)
        log(f"adopted: the backups in {self.repository.location} go on with cluster {ours.system} on {ours.volume}")


# ---- What makes a part whole ----


def holds_nothing(server: Server, database: str) -> bool:
    """Return whether a dump of a database would have nothing to say. Raises HostError."""
    said = dump.comparable(sql_text.statements(server.schema(database)))
    # A schema does not have these.
    return not any(said) and server.query(database, "SELECT oid FROM pg_largeobject_metadata LIMIT 1;") == []


def count_to_the_end(archive: IO[bytes]) -> dict[str, int]:
    """Have pg_restore read a dump (--list would look at its beginning only), and count its rows. Raises HostError."""
    with tempfile.TemporaryFile() as errors:
        command = ["pg_restore", "--data-only", "--file=-"]
        with subprocess.Popen(command, stdin=archive, stdout=subprocess.PIPE, stderr=errors) as process:
            assert process.stdout
            rows = sql_text.count_rows(process.stdout)
        if process.returncode:
            errors.seek(0)
            output = errors.read().decode("utf-8", "replace").strip()[-1500:]
            raise HostError(f"the dump in the repository is not whole: {output}")
    return rows


# ---- The command ----


def run_step(backup: Backup, words: Sequence[str]) -> None:
    """Do the step of a backup that `words` name; HostError says which there are."""
    step, *rest = words or [""]
    if step == "refuse-turn" and not rest:
        raise HostError(turn.refusal(backup.work))
    if step == "begin" and not rest:
        sys.stdout.write("".join(f"{name}\n" for name in backup.begin()))
    elif step == "database" and len(rest) > 2 and rest[1] == "--":
        backup.back_up_database(rest[0], rest[2:])
    elif step == "globals" and len(rest) > 1 and rest[0] == "--":
        backup.back_up_globals(rest[1:])
    elif step == "redis" and len(rest) == 1:
        backup.back_up_redis(Path(rest[0]))
    elif step == "complete" and not rest:
        backup.complete()
    else:
        raise HostError("zmanim-host backup begin|database NAME -- COMMAND…|globals -- COMMAND…|redis FILE|complete")


def command(arguments: Sequence[str]) -> None:
    """Do one step of the backup (backup.sh calls it)."""
    run_step(Backup(repository(os.environ), os.environ["INSTANCE_ID"]), arguments)
