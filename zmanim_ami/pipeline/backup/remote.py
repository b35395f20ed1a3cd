"""The backups of a running instance, asked for by Run Command: make one, list, try, restore, adopt.

The instance does it all itself (/opt/zmanim/backup.sh and restore.sh); here is only how to ask and what it answers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from support.errors import BadInput, Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.run_command import run_script

# Long enough for a database that takes hours; the units on the instance have limits of their own.
LONG_SECONDS = 6 * 3600.0
_SHORT_SECONDS = 300.0
_RUN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}", re.ASCII)
_RESTORE = "/opt/zmanim/restore.sh"
# A failed unit's own words are the answer.
_START = """\
if ! systemctl start {unit}; then
  journalctl --unit {unit} --no-pager --output cat --lines 30 >&2
  exit 1
fi
"""
BACK_UP = _START.format(unit="restic-backup.service")
DRILL = _START.format(unit="backup-drill.service") + (
    "journalctl --unit backup-drill.service --no-pager --output cat --lines 30 | grep '^{' | tail -n 1\n"
)
# The API comes back whatever became of the restore: where it failed, the old data is in force.
REPLACE = f"""\
systemctl stop zmanim-api.service
code=0
{_RESTORE} %s --replace --yes --json || code=$?
systemctl start zmanim-api.service || code=$?
exit $code
"""


class AnswerUnreadable(Error):
    """The instance's answer is not what its scripts print."""


@dataclass(frozen=True)
class BackupRun:
    """A run in an instance's repository; `state` is complete, incomplete or adoption, `bytes` before compression.

    `proven` is when it was last restored and came out as recorded; empty for a run that was not.
    """

    run: str
    time: str
    state: str
    bytes: int
    future: bool
    proven: str = ""


@dataclass(frozen=True)
class Restored:
    """A restore that came out as its record says; both times in seconds, `age` of the data when it began."""

    run: str
    seconds: float
    age: float
    rows: int
    keys: int


@dataclass(frozen=True)
class Adopted:
    """Whose the backups are now: `output` is what the instance printed of it."""

    instance: str
    output: str


def instance(clients: aws.Clients, environment: str, given: str) -> str:
    """Return `given`, or the id of the one running instance of `environment`.

    Raises `which-instance`, which also says at once of an instance that none will ever run there; aws's errors.
    """
    if given:
        if not re.fullmatch(r"i-[0-9a-f]{8,17}", given, re.ASCII):
            raise BadInput(
                "that is no instance's id", code="which-instance", expected="i-0123456789abcdef0", found=repr(given)
            )
        _check_runs(clients, given)
        return given
    with aws.translate_errors(f"looking for the instance of {environment}"):
        filters = {"tag:zmanim:environment": [environment], "instance-state-name": ["running"]}
        running = [each["InstanceId"] for each in aws.instances(clients, filters)]
    if len(running) != 1:
        raise BadInput(
            f"{len(running)} instances of {environment} run",
            code="which-instance",
            expected="one, or --instance",
            found=", ".join(running) or "none",
            fix="say which by --instance, or another --environment",
        )
    return running[0]


def _check_runs(clients: aws.Clients, instance_id: str) -> None:
    # Systems Manager says the same of an instance that does not exist as of one whose agent has yet to register.
    with aws.translate_errors(f"looking for {instance_id}"):
        shown = aws.unless_refused(
            lambda: clients.ec2.describe_instances(InstanceIds=[instance_id]),
            *("InvalidInstanceID.NotFound", "InvalidInstanceID.Malformed"),
        )
    states = [
        each["State"]["Name"] for item in (shown or {"Reservations": []})["Reservations"] for each in item["Instances"]
    ]
    if states not in (["pending"], ["running"]):
        raise BadInput(
            f"{instance_id} does not run in {clients.region}",
            code="which-instance",
            expected="an instance that runs",
            found=", ".join(states) or "no such instance",
            fix="say another by --instance, or another --region; without --instance it is the environment's only one",
        )


def make(clients: aws.Clients, instance_id: str, poller: aws.Poller) -> BackupRun:
    """Make a backup now, as the nightly timer would, and return its run.

    Raises run_command.CommandNotRun with the unit's own words, AnswerUnreadable, aws's errors.
    """
    run_script(clients, instance_id, BACK_UP, LONG_SECONDS, poller)
    complete = [run for run in listed(clients, instance_id, poller) if run.state == "complete" and not run.future]
    if not complete:
        raise AnswerUnreadable("the backup has left no complete run", expected="one", found="none")
    return complete[0]


def listed(clients: aws.Clients, instance_id: str, poller: aws.Poller) -> list[BackupRun]:
    """Return what is in the instance's repository, the newest first. Raises as `make` does."""
    return list(read_runs(run_script(clients, instance_id, f"{_RESTORE} --list --json\n", _SHORT_SECONDS, poller)))


def read_runs(text: str) -> tuple[BackupRun, ...]:
    """Return what restore.sh --list --json printed. Raises AnswerUnreadable."""
    try:
        return tuple(
            BackupRun(row["run"], row["time"], row["state"], int(row["bytes"]), row["future"], row.get("proven", ""))
            for row in json.loads(text)
        )
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(text) from error


def drill(clients: aws.Clients, instance_id: str, poller: aws.Poller) -> Restored:
    """Restore the newest run beside what is live, as the monthly timer does. Raises as `make` does."""
    return read_restored(run_script(clients, instance_id, DRILL, LONG_SECONDS, poller))


def restore(clients: aws.Clients, instance_id: str, run: str, *, replace: bool, poller: aws.Poller) -> Restored:
    """Restore a run beside what is live, or with `replace` in its place (the API is stopped for that).

    Raises `run-invalid`, and as `make` does.
    """
    check_run(run)
    script = REPLACE % f"--run {run}" if replace else f"{_RESTORE} --run {run} --json\n"
    return read_restored(run_script(clients, instance_id, script, LONG_SECONDS, poller))


def check_run(run: str) -> None:
    """Raise `run-invalid` unless the text is a run's id: it becomes part of a command."""
    if not _RUN.fullmatch(run):
        raise BadInput(
            "that is no run's id",
            code="run-invalid",
            expected="such as 20261124T030212Z-0a1b2c",
            found=repr(run),
            fix="./inv backup.list shows them",
        )


def adopt(clients: aws.Clients, instance_id: str, poller: aws.Poller) -> Adopted:
    """Let the instance's cluster go on with the backups of another one. Raises as `make` does."""
    output = run_script(clients, instance_id, f"{_RESTORE} --adopt 2>&1\n", _SHORT_SECONDS, poller)
    return Adopted(instance_id, output.strip())


def read_restored(text: str) -> Restored:
    """Return what restore.sh --json printed last. Raises AnswerUnreadable."""
    types = {"run": str, "seconds": float, "age": float, "rows": int, "keys": int}
    try:
        record: Mapping[str, object] = json.loads(text.strip().splitlines()[-1])
        return Restored(**{name: convert(str(record[name])) for name, convert in types.items()})
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise unreadable(text) from error


def unreadable(text: str) -> AnswerUnreadable:
    """Return the error of an answer that is not what a script of ours prints."""
    return AnswerUnreadable("the instance's answer can't be read", expected="JSON", found=text[-500:] or "nothing")
