"""restic: where the repository is, what restic's exit codes mean, and the few things that are done with it."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from zmanim_host.backup.retention import Run
from zmanim_host.host import WARNING, Ear, HostError, log, run

# A fixed name: the machine's own changes with every image.
HOST = "zmanim"
# restic's exit codes (its manual, "Scripting").
INCOMPLETE, NO_REPOSITORY, LOCKED, WRONG_PASSWORD = 3, 10, 11, 12
# One environment has machines that come and go, each with a cluster of its own: theirs are separate repositories.
PASSING = "verify"
# Longer than any upload of ours; the unit's own limit ends the run as a whole.
LONG = 7200.0
# What restic says when the metadata service was late or away: it waits for a token for one second, once (minio-go's
# fetchIMDSToken). Nothing has begun then, so the same is tried again, after these pauses (seconds).
_NO_CREDENTIALS = "no credentials found"
PAUSES = (2.0, 8.0)
# How restic says that it tries something again, for a quarter of an hour, that it was good then, and that it gives up.
_AGAIN = re.compile(r"returned error, retrying after|operation successful after \d+ retries")
_GAVE_UP = re.compile(r"returned error, retrying after.*^\w+\(.*\) failed: ", re.MULTILINE | re.DOTALL)
_DENIED = re.compile(r"Access ?Denied|AllAccessDisabled|InvalidAccessKeyId|SignatureDoesNotMatch|ExpiredToken|\b403\b")


@dataclass(frozen=True)
class Repository:
    """An environment's repository; `variables` are restic's own."""

    environment: str
    region: str
    bucket: str
    location: str
    variables: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Stored:
    """A snapshot that was made, and how many bytes it holds."""

    snapshot: str
    bytes: int


class NoRepository(HostError):
    """There is no repository at this place."""


def repository(environ: Mapping[str, str]) -> Repository:
    """Return the repository that the unit's environment names; HostError names what is missing."""
    names = ("ZMANIM_ENVIRONMENT", "AWS_REGION", "INSTANCE_ID", "BACKUP_BUCKET_PREFIX", "BACKUP_PATH")
    missing = [name for name in (*names, "RESTIC_PASSWORD_FILE") if not environ.get(name)]
    if missing:
        raise HostError(f"the environment variables {', '.join(missing)} are missing")
    environment, region, instance, prefix, path = (environ[name] for name in names)
    bucket = f"{prefix}-{environment}"
    if environment == PASSING:
        path = f"{path}/{instance}"
    location = f"s3:https://s3.{region}.amazonaws.com/{bucket}/{path}"
    return Repository(environment, region, bucket, location, {"RESTIC_REPOSITORY": location})


def restic(
    repo: Repository,
    *arguments: str,
    timeout: float = LONG,
    input: str | None = None,
    may_exit: Sequence[int] = (0,),
) -> subprocess.CompletedProcess[str]:
    """Run restic and return what it wrote.

    Raises NoRepository, or HostError that says which of the known reasons it was.
    """
    every = range(-64, 256)
    for pause in (*PAUSES, None):
        command, variables = ["restic", *arguments], repo.variables
        done = run(command, timeout=timeout, environment=variables, input=input, may_exit=every, tell=hear)
        if pause is None or _NO_CREDENTIALS not in done.stderr:
            break
        time.sleep(pause)
    if done.returncode in may_exit:
        return done
    text = explain(repo, arguments[0], done.returncode, done.stderr)
    raise (NoRepository if done.returncode == NO_REPOSITORY else HostError)(text)


def hear(line: str) -> None:
    """Log at once what restic says of S3 while it goes on: whoever ends it then would not know why it took so long."""
    if _AGAIN.search(line):
        log(f"trouble with S3: {messages(line)}", WARNING)


def explain(repo: Repository, verb: str, code: int, stderr: str) -> str:
    """Say what restic's exit code means here; an unknown one is a failure like any other."""
    said = messages(stderr)[-1500:]
    if code == NO_REPOSITORY:
        return f"there is no repository at {repo.location}"
    if code == WRONG_PASSWORD:
        return f"the parameter /zmanim/{repo.environment}/restic-password is not the password of {repo.location}"
    if code == LOCKED:
        return (
            f"the repository {repo.location} is locked, by another run or by one that was killed less than 30 minutes"
            f" ago; a lock that nobody renews is ignored after that. restic said: {said}"
        )
    if _NO_CREDENTIALS in said:
        return (
            f"no credentials for {repo.location}: has this instance an instance profile, and does its metadata service"
            f" answer? restic said: {said}"
        )
    if _DENIED.search(said):
        return f"S3 denies access to {repo.location}: does this instance's role allow it? restic said: {said}"
    away = f"S3 did not answer for a quarter of an hour, or with errors only ({repo.location}). "
    return f"{away if _GAVE_UP.search(messages(stderr)) else ''}restic {verb}: exit code {code}: {said}"


def messages(stderr: str) -> str:
    """Return restic's messages as text, of which it makes JSON where it prints JSON."""
    lines = []
    for line in stderr.splitlines():
        try:
            told = json.loads(line)
            error = told.get("error")
            text = told.get("message") or (error.get("message") if isinstance(error, dict) else "") or line
        except (ValueError, AttributeError):
            text = line
        lines.append(str(text).strip())
    return "\n".join(line for line in lines if line)


def check_reachable(
    repo: Repository,
    *,
    connect: Callable[[str, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
    tries: int = 4,
) -> None:
    """Raise HostError when nothing answers where S3 is: restic itself would try for a quarter of an hour."""
    host = urlsplit(repo.location[len("s3:") :]).hostname or ""
    for left in reversed(range(tries)):
        try:
            (connect or _connect)(host, 443)
        except OSError as error:
            if not left:
                raise HostError(
                    f"S3 can't be reached: {host} port 443: {error}. Is there a route, an S3 endpoint in the VPC?"
                ) from None
            sleep(5)
        else:
            return


def _connect(host: str, port: int) -> None:
    socket.create_connection((host, port), timeout=10).close()


def check_bucket(repo: Repository) -> None:
    """Raise HostError unless the bucket is there and may be used: to restic a missing one looks like a new one."""
    command = ["aws", "s3api", "head-bucket", "--bucket", repo.bucket, "--region", repo.region]
    command += ["--cli-connect-timeout", "5", "--cli-read-timeout", "10", "--no-cli-pager"]
    try:
        run(command, timeout=60, environment={"HOME": "/nonexistent", "AWS_MAX_ATTEMPTS": "2"})
    except HostError as error:
        raise HostError(
            f"the bucket {repo.bucket} is not there, or this instance's role may not use it; nothing was made ({error})"
        ) from error


def open_or_make(repo: Repository) -> list[Run]:
    """Return every run in the repository; make one only where restic is sure that there is none, in a bucket that is.

    Raises HostError.
    """
    try:
        return runs(repo)
    except NoRepository:
        check_bucket(repo)
    log(f"no repository at {repo.location} yet: making it")
    restic(repo, "init", timeout=300)
    return []


def runs(repo: Repository) -> list[Run]:
    """Return every run in the repository. Raises NoRepository, HostError."""
    return grouped(json.loads(restic(repo, "snapshots", "--json", "--no-lock", timeout=1200).stdout or "[]"))


def grouped(snapshots: Iterable[Mapping[str, object]]) -> list[Run]:
    """Return the runs that restic's snapshots belong to; what has no tag `run:` is nobody's of ours."""
    found: dict[str, list[Mapping[str, object]]] = {}
    for snapshot in snapshots:
        name = _tag(snapshot, "run")
        if name:
            found.setdefault(name, []).append(snapshot)
    return [_run(name, parts) for name, parts in found.items()]


def _run(name: str, parts: list[Mapping[str, object]]) -> Run:
    parts = sorted(parts, key=lambda part: _time(str(part["time"])))
    records = [part for part in parts if _tag(part, "part") == "record"]
    adoptions = [part for part in parts if _tag(part, "part") == "adoption"]
    marked = (records or adoptions or parts)[-1]
    return Run(
        id=name,
        time=_time(str(marked["time"])),
        snapshots=tuple(str(part["id"]) for part in parts),
        record=str(records[-1]["id"]) if records else None,
        adoption=bool(adoptions),
        system=_tag(marked, "system") if records or adoptions else "",
        bytes=sum(_bytes(part) for part in parts),
    )


def _bytes(snapshot: Mapping[str, object]) -> int:
    told = snapshot.get("summary")
    return int(told.get("total_bytes_processed", 0)) if isinstance(told, dict) else 0


def _tag(snapshot: Mapping[str, object], name: str) -> str:
    tags = snapshot.get("tags") or []
    assert isinstance(tags, list)
    return next((tag[len(name) + 1 :] for tag in tags if str(tag).startswith(f"{name}:")), "")


def _time(text: str) -> datetime:
    # Nanoseconds, and Z or an offset: more than Python 3.9 reads.
    found = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.\d+)?(Z|[+-]\d\d:\d\d)", text)
    if not found:
        raise HostError(f"restic gives a time that can't be understood: {text!r}")
    zone = "+00:00" if found[2] == "Z" else found[2]
    return datetime.fromisoformat(found[1] + zone).astimezone(timezone.utc)


def store(
    repo: Repository,
    tags: Sequence[str],
    *,
    name: str,
    command: Sequence[str] = (),
    file: Path | None = None,
    text: str | None = None,
) -> Stored:
    """Make a snapshot of what `command` writes (as the file `name`), of `file`, or of `text`.

    No shell and no pipe between restic and the command: restic sees how it ended and keeps nothing of a failed one.
    A snapshot that restic calls incomplete, an empty output among them, is removed again. Raises HostError.
    """
    arguments = ["backup", "--json", "--quiet", "--host", HOST]
    for tag in tags:
        arguments += ["--tag", tag]
    if command:
        arguments += ["--stdin-filename", name, "--stdin-from-command", "--", *command]
    elif file is not None:
        arguments += ["--", str(file)]
    else:
        arguments += ["--stdin", "--stdin-filename", name]
    done = restic(repo, *arguments, input=text, may_exit=(0, INCOMPLETE))
    said = "\n".join(line for line in done.stderr.splitlines() if not _AGAIN.search(line))
    if said.strip():
        log(messages(said))
    stored = summary(done.stdout)
    what = " ".join(command[:1]) or name
    if stored is None:
        raise HostError(f"restic made no snapshot of {name}: {messages(done.stderr)[-1500:]}")
    if done.returncode == INCOMPLETE or stored.bytes == 0:
        forget(repo, [stored.snapshot])
        raise HostError(f"{what} gave nothing, or not all, for {name}: the snapshot was removed again")
    return stored


def summary(stdout: str) -> Stored | None:
    """Return what restic's JSON summary says of the snapshot that it made, if it made one."""
    for line in reversed(stdout.splitlines()):
        try:
            told = json.loads(line)
        except ValueError:
            continue
        if isinstance(told, dict) and told.get("message_type") == "summary" and told.get("snapshot_id"):
            return Stored(str(told["snapshot_id"]), int(told["total_bytes_processed"]))
    return None


def read(repo: Repository, snapshot: str, path: str) -> str:
    """Return a small file of a snapshot as text. Raises HostError."""
    return restic(repo, "dump", "--no-lock", snapshot, path, timeout=600).stdout


def read_into(repo: Repository, snapshot: str, path: str, consume: Callable[[IO[bytes]], None]) -> None:
    """Give a file of a snapshot to `consume`, as a stream; HostError unless restic ends well, and `consume`.

    restic's end is looked at even when `consume` has failed: it may be the reason.
    """
    for pause in (*PAUSES, None):
        code, said, failure = _dump(repo, snapshot, path, consume)
        if pause is None or _NO_CREDENTIALS not in said:
            break
        time.sleep(pause)
    if code and (failure is None or "broken pipe" not in said.lower()):
        raise HostError(f"{explain(repo, 'dump', code, said)}{f' ({failure})' if failure else ''}") from failure
    if failure:
        raise failure


def _dump(
    repo: Repository, snapshot: str, path: str, consume: Callable[[IO[bytes]], None]
) -> tuple[int, str, HostError | None]:
    command = ["restic", "dump", "--no-lock", snapshot, path]
    environment = {**os.environ, **repo.variables}
    failure: HostError | None = None
    ear = Ear(hear)
    try:
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=ear.writer, env=environment) as process:
            assert process.stdout
            try:
                consume(process.stdout)
            except HostError as error:
                failure = error
            process.stdout.close()
            code = process.wait()
    finally:
        said = ear.close()
    return code, said, failure


def forget(repo: Repository, snapshots: Sequence[str]) -> None:
    """Remove snapshots by their ids; HostError when one could not be removed."""
    if snapshots:
        restic(repo, "forget", *snapshots, timeout=1200)


def unlock(repo: Repository) -> None:
    """Remove locks by restic's own rule: 30 minutes old, or of this host's dead processes. Never all of them."""
    restic(repo, "unlock", timeout=600)
