"""restic: where the repository is, what restic's exit codes mean, and the few things that are done with it."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from zmanim_host.aws import clock as aws_clock
from zmanim_host.aws import marker
from zmanim_host.aws.awscli import aws
from zmanim_host.backup.retention import PROOF, Run
from zmanim_host.environment import PASSING
from zmanim_host.host import CLOCK, WARNING, Clock, HostError, NotYet, StderrReader, log, required_variables, retry, run

# A fixed name: the machine's own changes with every image.
HOST = "zmanim"
# restic's exit codes (its manual, "Scripting").
INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 3, 10, 11, 12
# Longer than any upload of ours; the unit's own limit ends the run as a whole.
LONG = 7200.0
# What restic says when the metadata service was late or away: it waits for a token for one second, once (minio-go's
# fetchIMDSToken). Nothing has begun then, so the same is tried again, after these pauses (seconds).
_NO_CREDENTIALS = "no credentials found"
PAUSES = (2.0, 8.0)
# How restic says that it tries something again, for a quarter of an hour, that it was good then, and that it gives up.
_AGAIN = re.compile(r"returned error, retrying after|operation successful after \d+ retries")
_GAVE_UP = re.compile(r"returned error, retrying after.*^\w+\(.*\) failed: ", re.MULTILINE | re.DOTALL)
# What S3, or the metadata service, has said no by, and what that mostly is.
_REASONS = (
    (
        re.compile(re.escape(_NO_CREDENTIALS)),
        "no credentials for {}: has this instance an instance profile, and does its metadata service answer?",
    ),
    (
        re.compile(r"RequestTimeTooSkewed|difference between the request time and the current time is too large"),
        "S3 refuses this machine's clock ({}): chronyc tracking; systemctl status chronyd.",
    ),
    (
        re.compile(r"Access ?Denied|AllAccessDisabled|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|\b403\b"),
        "S3 denies access to {}: does this instance's role allow it?",
    ),
)

# Opens a connection to a host and port, within that many seconds.
Connect = Callable[[tuple[str, int], float], socket.socket]


class NoRepository(HostError):
    """There is no repository at this place."""


@dataclass(frozen=True)
class Stored:
    """A snapshot that was made, and how many bytes it holds."""

    snapshot: str
    bytes: int


@dataclass(frozen=True)
class Repository:
    """An environment's repository; `pauses` are those before what came too early for credentials is tried again.

    `user` is the system user that restic runs as (None: ourselves), and `password` the repository's where that user
    can't read the file.
    """

    environment: str
    region: str
    bucket: str
    location: str
    pauses: Sequence[float] = PAUSES
    user: str | None = None
    password: str = field(default="", repr=False)

    def _environment(self) -> dict[str, str]:
        given = {"RESTIC_REPOSITORY": self.location}
        return {**given, "RESTIC_PASSWORD": self.password, "RESTIC_PASSWORD_FILE": ""} if self.password else given

    def restic(
        self,
        *arguments: str,
        timeout: float = LONG,
        input: str | None = None,
        may_exit: Sequence[int] = (0,),
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run restic and return what it wrote; `environment` is added to ours, for the command that it runs.

        Raises NoRepository, or HostError that says which of the known reasons it was.
        """
        command, any_code = ["restic", *arguments], range(-64, 256)
        done = self._with_credentials(
            lambda: run(
                command,
                timeout=timeout,
                environment={**(environment or {}), **self._environment()},
                user=self.user,
                input=input,
                may_exit=any_code,
                on_line=log_trouble,
            )
        )
        if done.returncode in may_exit:
            return done
        text = self._explain(arguments[0], done.returncode, done.stderr)
        raise (NoRepository if done.returncode == NO_REPOSITORY else HostError)(text)

    def _with_credentials(
        self, attempt: Callable[[], subprocess.CompletedProcess[str]]
    ) -> subprocess.CompletedProcess[str]:
        for pause in self.pauses:
            done = attempt()
            if _NO_CREDENTIALS not in done.stderr:
                return done
            time.sleep(pause)
        return attempt()

    def _explain(self, verb: str, code: int, stderr: str) -> str:
        """Say what restic's exit code means here; an unknown one is a failure like any other."""
        output = messages(stderr)[-1500:]
        if code == NO_REPOSITORY:
            return f"there is no repository at {self.location}"
        if code == WRONG_PASSWORD:
            return f"the parameter /zmanim/{self.environment}/restic-password is not the password of {self.location}"
        if code == LOCKED:
            return (
                f"the repository {self.location} is locked, by another run or by one that was killed less than 30"
                f" minutes ago; a lock that nobody renews is ignored after that. restic's output: {output}"
            )
        for pattern, words in _REASONS:
            if pattern.search(output):
                return f"{words.format(self.location)} restic's output: {output}"
        away = f"S3 did not answer for a quarter of an hour, or with errors only ({self.location}). "
        return f"{away if _GAVE_UP.search(messages(stderr)) else ''}restic {verb}: exit code {code}: {output}"

    def check_reachable(
        self,
        *,
        connect: Connect = socket.create_connection,
        clock: Clock = CLOCK,
        check_clock: Callable[[str], None] = aws_clock.check,
    ) -> None:
        """Raise HostError when no S3 answers, or it refuses our clock: restic would try for a quarter of an hour."""
        host = urlsplit(self.location[len("s3:") :]).hostname or ""

        def attempt() -> None:
            try:
                connect((host, 443), 10).close()
            except OSError as error:
                raise NotYet(
                    f"S3 can't be reached: {host} port 443: {error}. Is there a route, an S3 endpoint in the VPC?"
                ) from None

        retry(attempt, seconds=30, pause=5, clock=clock)
        check_clock(host)

    def open_or_make(self) -> list[Run]:
        """Return every run in the repository; make one only where restic is sure that there is none.

        To restic a missing bucket looks like a new one: so that has to be there. Nor is one made where the environment
        has had backups, unless its machines have each their own. Raises HostError.
        """
        passing = self.environment == PASSING
        try:
            runs = self.runs()
        except NoRepository:
            try:
                aws("s3api", "head-bucket", "--bucket", self.bucket, region=self.region)
            except HostError as error:
                raise HostError(
                    f"the bucket {self.bucket} is not there, or this instance's role may not use it; nothing was made"
                    f" ({error})"
                ) from error
            self._check_never_begun(passing=passing)
            log(f"no repository at {self.location} yet: making it")
            self.restic("init", timeout=300)
            runs = []
        if not passing:
            marker.note(self.environment, self.region, self.location)
        return runs

    def _check_never_begun(self, *, passing: bool) -> None:
        """Raise HostError where this environment has had backups: they are somewhere, or were deleted."""
        where = "" if passing else marker.begun(self.environment, self.region)
        if where:
            name = marker.parameter(self.environment)
            raise HostError(
                f"there is no repository at {self.location}, and backups of {self.environment} were begun at {where}"
                f" (the parameter {name}): nothing was made. Is {self.bucket} the right bucket (the parameter"
                f" /zmanim/{self.environment}/backups-bucket)? If it was emptied: docs/backups.md says how what was"
                f" deleted is had back. To begin anew on purpose: aws ssm delete-parameter --name {name}"
            )

    def runs(self) -> list[Run]:
        """Return every run in the repository. Raises NoRepository, HostError."""
        return grouped(json.loads(self.restic("snapshots", "--json", "--no-lock", timeout=1200).stdout or "[]"))

    def store(
        self,
        tags: Sequence[str],
        *,
        name: str,
        command: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        file: Path | None = None,
        text: str | None = None,
    ) -> Stored:
        """Make a snapshot of what `command` writes in `environment` (as the file `name`), of `file`, or of `text`.

        No shell and no pipe between restic and the command: restic sees how it ended and keeps nothing of a failed one.
        A snapshot that restic calls incomplete, an empty output among them, is removed again. Raises HostError.
        """
        arguments = ["backup", "--json", "--quiet", "--host", HOST, *(word for tag in tags for word in ("--tag", tag))]
        if command:
            arguments += ["--stdin-filename", name, "--stdin-from-command", "--", *command]
        elif file is not None:
            arguments += ["--", str(file)]
        else:
            arguments += ["--stdin", "--stdin-filename", name]
        done = self.restic(*arguments, input=text, environment=environment, may_exit=(0, INCOMPLETE))
        rest = "\n".join(line for line in done.stderr.splitlines() if not _AGAIN.search(line))
        if rest.strip():
            log(messages(rest))
        stored = summary(done.stdout)
        if stored is None:
            raise HostError(f"restic made no snapshot of {name}: {messages(done.stderr)[-1500:]}")
        if done.returncode == INCOMPLETE or stored.bytes == 0:
            self.forget([stored.snapshot])
            source = " ".join(command[:1]) or name
            raise HostError(f"{source} gave nothing, or not all, for {name}: the snapshot was removed again")
        return stored

    def read(self, snapshot: str, path: str) -> str:
        """Return a small file of a snapshot as text. Raises HostError."""
        return self.restic("dump", "--no-lock", "--", snapshot, path, timeout=600).stdout

    def read_into(self, snapshot: str, path: str, consume: Callable[[IO[bytes]], None]) -> None:
        """Give a file of a snapshot to `consume`, as a stream; HostError unless restic ends well, and `consume`.

        restic's end is looked at even when `consume` has failed: it may be the reason.
        """
        # What a record says is a snapshot must not be taken for an option.
        command = ["restic", "dump", "--no-lock", "--", snapshot, path]
        environment = {**os.environ, **self._environment()}
        failures: list[HostError] = []

        def attempt() -> subprocess.CompletedProcess[str]:
            failures.clear()
            reader = StderrReader(log_trouble)
            try:
                with subprocess.Popen(
                    command,
                    stdout=subprocess.PIPE,
                    stderr=reader.writer,
                    env=environment,
                    user=self.user,
                    group=self.user,
                    extra_groups=[] if self.user else None,
                ) as process:
                    assert process.stdout
                    try:
                        consume(process.stdout)
                    except HostError as error:
                        failures.append(error)
                    except BaseException:
                        # The time is up, or somebody ends us: it may be waiting for S3, which is not waited for.
                        process.terminate()
                        raise
            finally:
                stderr = reader.close()
            return subprocess.CompletedProcess(command, process.returncode, "", stderr)

        done = self._with_credentials(attempt)
        failure = failures[0] if failures else None
        unread = done.returncode == -signal.SIGPIPE or "broken pipe" in done.stderr.lower()
        if done.returncode and not (failure and unread):
            reason = self._explain("dump", done.returncode, done.stderr)
            raise HostError(f"{reason} ({failure})" if failure else reason) from failure
        if failure:
            raise failure

    def forget(self, snapshots: Sequence[str]) -> None:
        """Remove snapshots by their ids; HostError when one could not be removed."""
        if snapshots:
            self.restic("forget", *snapshots, timeout=1200)

    def redate(self, snapshot: str, at: datetime) -> None:
        """Give a snapshot another time; it has another id from then on, and the same tags. Raises HostError."""
        time = at.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S")
        self.restic("rewrite", "--forget", "--new-time", time, snapshot, timeout=1200, environment={"TZ": "UTC"})

    def unlock(self) -> None:
        """Remove locks by restic's own rule: 30 minutes old, or of this host's dead processes. Never all of them."""
        self.restic("unlock", timeout=600)


def repository(environ: Mapping[str, str]) -> Repository:
    """Return the repository that the unit's environment names; HostError names what is missing."""
    names = ("ZMANIM_ENVIRONMENT", "AWS_REGION", "BACKUP_PATH", "INSTANCE_ID", "RESTIC_PASSWORD_FILE")
    environment, region, path, *_ = required_variables(environ, *names)
    bucket = environ.get("BACKUPS_BUCKET", "")
    if not bucket:
        raise HostError(
            f"the parameter /zmanim/{environment}/backups-bucket has not said where backups are: ./inv account.apply"
            f" --environment {environment}, then: systemctl restart zmanim-secrets"
        )
    if environment == PASSING:  # each machine has one of its own, or that of the machines that it was launched with
        (own,) = required_variables(environ, "ZMANIM_REPOSITORY")
        path = f"{path}/{own}"
    return Repository(environment, region, bucket, f"s3:https://s3.{region}.amazonaws.com/{bucket}/{path}")


# ---- restic's output ----


def log_trouble(line: str) -> None:
    """Log at once what restic says of S3 while it goes on: whoever ends it then would not know why it took so long."""
    if _AGAIN.search(line):
        log(f"trouble with S3: {messages(line)}", WARNING)


def messages(stderr: str) -> str:
    """Return restic's messages as text, of which it makes JSON where it prints JSON."""
    lines = []
    for line in stderr.splitlines():
        try:
            message = json.loads(line)
            error = message.get("error")
            text = message.get("message") or (error.get("message") if isinstance(error, dict) else "") or line
        except (ValueError, AttributeError):
            text = line
        lines.append(str(text).strip())
    return "\n".join(line for line in lines if line)


def summary(stdout: str) -> Stored | None:
    """Return what restic's JSON summary says of the snapshot that it made, if it made one."""
    for line in reversed(stdout.splitlines()):
        try:
            message = json.loads(line)
        except ValueError:
            continue
        if isinstance(message, dict) and message.get("message_type") == "summary" and message.get("snapshot_id"):
            return Stored(str(message["snapshot_id"]), int(message["total_bytes_processed"]))
    return None


def grouped(snapshots: Iterable[Mapping[str, Any]]) -> list[Run]:
    """Return the runs that restic's snapshots belong to; what has no tag `run:` is nobody's of ours."""
    runs: dict[str, list[Mapping[str, Any]]] = {}
    for snapshot in snapshots:
        name = _tag(snapshot, "run")
        if name:
            runs.setdefault(name, []).append(snapshot)
    return [_run(name, parts) for name, parts in runs.items()]


def _run(name: str, parts: list[Mapping[str, Any]]) -> Run:
    parts = sorted(parts, key=lambda part: _time(part["time"]))
    records = [part for part in parts if _tag(part, "part") == "record"]
    adoptions = [part for part in parts if _tag(part, "part") == "adoption"]
    decisive = (records or adoptions or parts)[-1]
    return Run(
        id=name,
        time=_time(decisive["time"]),
        snapshots=tuple(part["id"] for part in parts),
        parts=tuple((_tag(part, "part"), part["id"]) for part in parts),
        proven=max((_time(part["time"]) for part in parts if _tag(part, "part") == PROOF), default=None),
        record=records[-1]["id"] if records else None,
        adoption=bool(adoptions),
        system=_tag(decisive, "system") if records or adoptions else "",
        volume=_tag(decisive, "volume") if records or adoptions else "",
        bytes=sum(int((part.get("summary") or {}).get("total_bytes_processed", 0)) for part in parts),
    )


def _tag(snapshot: Mapping[str, Any], name: str) -> str:
    return next((tag[len(name) + 1 :] for tag in snapshot.get("tags") or [] if tag.startswith(f"{name}:")), "")


def _time(text: str) -> datetime:
    # Nanoseconds, and Z or an offset: more than Python 3.9 reads.
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        raise HostError(f"restic gives a time that can't be understood: {text!r}")
    zone = "+00:00" if match[2] == "Z" else match[2]
    return datetime.fromisoformat(match[1] + zone).astimezone(timezone.utc)
