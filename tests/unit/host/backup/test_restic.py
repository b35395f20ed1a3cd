"""What restic's exit codes lead to, with a restic that answers as it is told."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import pytest

from tests.support.backup_parts import ENVIRON
from zmanim_host import limits
from zmanim_host.backup import restic
from zmanim_host.backup.restic import NoRepository, Stored
from zmanim_host.host import Clock, HostError

REPO = restic.repository(ENVIRON)
HASTY = replace(REPO, pauses=(0.0, 0.0))
SUMMARY = json.dumps({"message_type": "summary", "snapshot_id": "abc", "total_bytes_processed": 7})
Fake = Callable[..., Path]


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Fake:
    """Put programs on PATH that write down how they are called; each line of `answers` is a verb and some shell."""
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    calls = tmp_path / "calls"
    calls.touch()

    def make(program: str = "restic", **answers: str) -> Path:
        cases = "".join(f"{verb.replace('_', '-')}) {shell} ;;\n" for verb, shell in answers.items())
        script = f'#!/bin/sh\necho "{program} $*" >>{calls}\ncase $1 in\n{cases}*) exit 0 ;;\nesac\n'
        (tmp_path / program).write_text(script)
        (tmp_path / program).chmod(0o755)
        return calls

    return make


def verbs(calls: Path) -> list[str]:
    return [" ".join(line.split()[:2]) for line in calls.read_text().splitlines()]


def test_a_repository_is_in_the_bucket_that_the_account_names_and_each_passing_machine_has_its_own() -> None:
    assert REPO.location == "s3:https://s3.eu-west-1.amazonaws.com/backups-of-prod/restic"
    passing = restic.repository({**ENVIRON, "ZMANIM_ENVIRONMENT": "verify", "ZMANIM_REPOSITORY": "ab" * 16})
    assert passing.location.endswith(f"/backups-of-prod/restic/{'ab' * 16}")
    with pytest.raises(HostError, match="ZMANIM_REPOSITORY"):
        restic.repository({**ENVIRON, "ZMANIM_ENVIRONMENT": "verify"})


@pytest.mark.parametrize("name", ENVIRON)
def test_what_is_missing_is_named_and_nothing_is_guessed(name: str) -> None:
    words = "/zmanim/prod/backups-bucket .*account.apply --environment prod" if name == "BACKUPS_BUCKET" else name
    with pytest.raises(HostError, match=words):
        restic.repository({**ENVIRON, name: ""})


@pytest.mark.fault(34, injected="every other exit code of restic", must="no repository is made")
@pytest.mark.incident("restic init || true hid every error; a missing bucket looks like a missing repository")
@pytest.mark.parametrize(
    ("code", "stderr", "message"),
    [
        (1, "Fatal: unable to open config file: Stat: Access Denied.", "S3 denies access"),
        (1, "dial tcp: connection refused\nIs there a repository at the following location?", "exit code 1"),
        (11, "unable to create lock in backend: repository is already locked by PID 7", "is locked"),
        (12, "Fatal: wrong password or no key found", "/zmanim/prod/restic-password is not the password"),
        (2, "panic", "exit code 2"),
        (77, "who knows", "exit code 77"),
        # A duration's digits are no HTTP status.
        (1, "Stat(<config/>) returned error, retrying after 571.40302ms: EOF", "exit code 1"),
        (1, "Stat: 403 Forbidden", "S3 denies access"),
        (130, "", "exit code 130"),
    ],
)
def test_no_exit_code_but_10_leads_to_a_new_repository(fake: Fake, code: int, stderr: str, message: str) -> None:
    calls = fake(snapshots=f"echo '{stderr}' >&2; exit {code}")
    with pytest.raises(HostError, match=message):
        REPO.open_or_make()
    assert verbs(calls) == ["restic snapshots"]


def test_exit_code_10_makes_one_in_a_bucket_that_is_there(fake: Fake) -> None:
    fake("aws")
    calls = fake(snapshots="exit 10")
    assert REPO.open_or_make() == []
    assert verbs(calls) == ["restic snapshots", "aws s3api", "aws ssm", "restic init", "aws ssm"]
    marked = "put-parameter --region eu-west-1 --name /zmanim/prod/backup/repository"
    assert f"{marked} --type String --value {REPO.location} --no-overwrite" in calls.read_text()


@pytest.mark.incident("an image began a repository in an empty bucket while production's backups were in another one")
def test_none_is_begun_where_the_environment_has_had_backups_and_the_way_out_is_said(fake: Fake) -> None:
    fake("aws", ssm="echo s3:https://s3.eu-west-1.amazonaws.com/another/restic")
    calls = fake(snapshots="exit 10")
    with pytest.raises(HostError, match=r"begun at s3:https://\S+/another/restic .*nothing was made.*delete-parameter"):
        REPO.open_or_make()
    assert verbs(calls) == ["restic snapshots", "aws s3api", "aws ssm"]


def test_none_is_begun_where_nobody_can_say_whether_there_were_backups(fake: Fake) -> None:
    fake("aws", ssm="echo AccessDenied >&2; exit 254")
    calls = fake(snapshots="exit 10")
    with pytest.raises(HostError, match="AccessDenied"):
        REPO.open_or_make()
    assert "restic init" not in verbs(calls)


def test_a_repository_of_before_there_were_markers_gets_one_and_one_that_has_it_is_no_trouble(
    fake: Fake, capsys: pytest.CaptureFixture[str]
) -> None:
    calls = fake(snapshots="echo '[]'")
    for answer, told in (("exit 0", False), ("echo ParameterAlreadyExists >&2; exit 254", False), ("exit 254", True)):
        fake("aws", ssm=answer)
        assert REPO.open_or_make() == []
        assert ("can't be written" in capsys.readouterr().err) is told
    assert verbs(calls) == ["restic snapshots", "aws ssm"] * 3


def test_a_passing_machine_begins_its_own_without_asking(fake: Fake) -> None:
    fake("aws")
    calls = fake(snapshots="exit 10")
    assert replace(REPO, environment="verify").open_or_make() == []
    assert verbs(calls) == ["restic snapshots", "aws s3api", "restic init"]


def test_exit_code_10_makes_nothing_where_there_is_no_bucket(fake: Fake) -> None:
    fake("aws", s3api="echo 'Not Found' >&2; exit 254")
    calls = fake(snapshots="exit 10")
    with pytest.raises(HostError, match="the bucket backups-of-prod is not there"):
        REPO.open_or_make()
    assert "restic init" not in verbs(calls)


def test_an_s3_that_nobody_answers_for_is_told_at_once() -> None:
    def refuse(address: tuple[str, int], timeout: float) -> socket.socket:
        calls.append(address)
        raise ConnectionRefusedError("refused")

    calls: list[tuple[str, int]] = []
    slept: list[float] = []
    with pytest.raises(HostError, match=r"S3 can't be reached: s3.eu-west-1.amazonaws.com port 443"):
        REPO.check_reachable(connect=refuse, clock=Clock(lambda: sum(slept), slept.append))
    assert len(calls) == 7


def test_an_s3_that_answers_is_asked_for_its_time() -> None:
    def wrong(host: str) -> None:
        raise HostError(f"this machine's clock is not that of {host}")

    with pytest.raises(HostError, match=r"clock is not that of s3\.eu-west-1\.amazonaws\.com"):
        REPO.check_reachable(connect=lambda address, timeout: socket.socket(), check_clock=wrong)


def test_a_refused_clock_is_not_called_a_denial(fake: Fake) -> None:
    fake(snapshots="echo 'RequestTimeTooSkewed (403): The difference is too large.' >&2; exit 1")
    with pytest.raises(HostError, match="S3 refuses this machine's clock"):
        REPO.runs()


@pytest.mark.incident("a dump that had died was kept as a snapshot, and pushed the good one out")
def test_a_command_is_run_by_restic_itself_and_a_whole_snapshot_is_told(fake: Fake) -> None:
    calls = fake(backup=f"echo '{SUMMARY}'")
    command = ["pg_dump", "--format=custom"]
    assert REPO.store(["run:1", "part:x"], name="/x", command=command) == Stored("abc", 7)
    line = calls.read_text()
    assert "--host zmanim --tag run:1 --tag part:x --stdin-filename /x --stdin-from-command -- pg_dump" in line


@pytest.mark.fault(
    31,
    injected="a restic that ends with 3, or stored nothing",
    must="the snapshot is removed again, and the part is none",
)
@pytest.mark.parametrize("answer", [f"echo '{SUMMARY}'; exit 3", f"echo '{SUMMARY.replace('7', '0')}'"])
def test_a_snapshot_of_nothing_or_of_a_part_is_removed_again(fake: Fake, answer: str) -> None:
    calls = fake(backup=answer)
    with pytest.raises(HostError, match="removed again"):
        REPO.store(["run:1"], name="/x", command=["pg_dump"])
    assert calls.read_text().splitlines()[-1] == "restic forget abc"


def test_a_failed_command_is_an_error_with_its_own_words(fake: Fake) -> None:
    output = json.dumps({"message_type": "error", "error": {"message": "pg_dump: error: connection failed"}})
    fake(backup=f"echo '{output}' >&2; exit 1")
    with pytest.raises(HostError, match="pg_dump: error: connection failed"):
        REPO.store(["run:1"], name="/x", command=["pg_dump"])


def test_a_file_is_read_to_its_end_or_it_is_an_error(fake: Fake) -> None:
    def whole(stream: IO[bytes]) -> None:
        got.append(stream.read())

    got: list[bytes] = []
    fake(dump="echo content")
    REPO.read_into("abc", "/x", whole)
    assert got == [b"content\n"]
    fake(dump="echo conte; echo 'pack is damaged' >&2; exit 1")
    with pytest.raises(HostError, match="pack is damaged"):
        REPO.read_into("abc", "/x", whole)


@pytest.mark.incident("a proof whose time was up failed, as restic dies of a pipe that nobody reads")
def test_who_reads_no_further_is_told_why_and_not_how_restic_died_of_that(fake: Fake) -> None:
    fake(dump="exec cat /dev/zero")

    def gives_up(stream: IO[bytes]) -> None:
        stream.read(1)
        raise HostError("a damaged dump")

    def read_one(stream: IO[bytes]) -> None:
        stream.read(1)

    with pytest.raises(HostError, match=r"^a damaged dump$"):
        REPO.read_into("abc", "/x", gives_up)
    with pytest.raises(limits.PutOff), limits.time_limit(1):
        REPO.read_into("abc", "/x", lambda _: time.sleep(20))
    # And restic itself, where it waits for S3, is not waited for.
    fake(dump="exec sleep 60")
    began = time.monotonic()
    with pytest.raises(limits.PutOff), limits.time_limit(1):
        REPO.read_into("abc", "/x", read_one)
    assert time.monotonic() - began < 10


TRYING = 'Save(<data/0a1b>) returned error, retrying after 3.3s: Put "https://bucket.s3/": EOF'


@pytest.mark.incident("S3 was lost in a run, and the mail named the unit's time limit only")
def test_that_s3_fails_is_told_while_restic_still_tries(fake: Fake, tmp_path: Path) -> None:
    """The unit's time limit kills whoever would tell it at the end."""
    fake(backup=f"echo '{TRYING}' >&2; exec sleep 60")
    script = f"from zmanim_host.backup import restic; restic.repository({ENVIRON}).store([], name='/x', text='x')"
    environment = {**os.environ, "PYTHONPATH": str(Path(restic.__file__).parents[2])}
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True) as run:
        assert run.stderr
        try:
            # Without the telling this would wait for the end of restic, and find nothing.
            assert run.stderr.readline() == f"trouble with S3: {TRYING}\n"
        finally:
            os.killpg(run.pid, signal.SIGKILL)


def test_an_s3_that_is_back_is_told_once(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    back = "Save(<data/0a1b>) operation successful after 2 retries"
    fake(backup=f"echo '{TRYING}' >&2; echo '{back}' >&2; echo careful >&2; echo '{SUMMARY}'")
    assert REPO.store([], name="/x", text="x") == Stored("abc", 7)
    assert capsys.readouterr().err == f"trouble with S3: {TRYING}\ntrouble with S3: {back}\ncareful\n"
    fake(dump=f"echo '{TRYING}' >&2; echo content")
    got: list[bytes] = []
    REPO.read_into("abc", "/x", lambda stream: got.append(stream.read()))
    assert got == [b"content\n"]
    assert capsys.readouterr().err == f"trouble with S3: {TRYING}\n"


def test_an_s3_that_stays_away_is_named_when_restic_gives_up(fake: Fake) -> None:
    gave_up = TRYING.replace("returned error, retrying after 3.3s", "failed")
    output = json.dumps({"message_type": "exit_error", "code": 1, "message": "Fatal: unable to save snapshot"})
    fake(backup=f"for n in 1 2 3; do echo '{TRYING}' >&2; done; echo '{gave_up}' >&2; echo '{output}' >&2; exit 1")
    with pytest.raises(HostError, match=r"(?s)S3 did not answer .* restic backup: .* unable to save"):
        REPO.store([], name="/x", text="x")


LATE = "Fatal: unable to open repository: s3.getCredentials: no credentials found."


def late(calls: str, times: int, then: str) -> str:
    """Return shell that has no credentials at first, as when the metadata service is late, and then does `then`."""
    return f'if [ "$(grep -c . {calls})" -le {times} ]; then echo "{LATE}" >&2; exit 1; fi; {then}'


@pytest.mark.incident("a metadata service that was late by a second cost a night's backup")
def test_a_metadata_service_that_is_late_is_asked_again(fake: Fake) -> None:
    got: list[bytes] = []
    calls = fake()
    fake(snapshots=late(str(calls), 2, "echo '[]'"), dump=late(str(calls), 5, "echo content"))
    assert HASTY.runs() == []
    assert verbs(calls) == ["restic snapshots"] * 3
    HASTY.read_into("abc", "/x", lambda stream: got.append(stream.read()))
    assert [part for part in got if part] == [b"content\n"]
    assert verbs(calls)[3:] == ["restic dump"] * 3


def test_a_metadata_service_that_stays_away_is_named_and_nothing_is_made(fake: Fake) -> None:
    calls = fake()
    fake(snapshots=late(str(calls), 99, "exit 0"))
    with pytest.raises(HostError, match="has this instance an instance profile"):
        HASTY.open_or_make()
    assert verbs(calls) == ["restic snapshots"] * 3


def snapshot(id: str, time: str, *tags: str) -> Mapping[str, object]:
    return {"id": id, "time": time, "tags": list(tags), "summary": {"total_bytes_processed": 5}}


def test_snapshots_are_grouped_by_their_run_and_other_snapshots_are_left_out() -> None:
    result = restic.grouped(
        [
            snapshot("3", "2026-11-24T03:02:09.9+02:00", "run:a", "part:record", "system:77"),
            snapshot("1", "2026-11-24T01:01:00.123456789Z", "run:a", "part:database=zmanim"),
            snapshot("4", "2026-11-25T01:01:00Z", "run:b", "part:globals"),
            snapshot("5", "2026-11-25T01:01:00Z", "postgresql"),
            snapshot("6", "2026-11-26T01:01:00Z", "run:c", "part:adoption", "system:88"),
        ]
    )
    whole, cut, adopted = sorted(result, key=lambda run: run.id)
    assert (whole.snapshots, whole.record, whole.system, whole.bytes) == (("1", "3"), "3", "77", 10)
    assert whole.time == datetime(2026, 11, 24, 1, 2, 9, tzinfo=UTC)
    assert (cut.record, cut.system, cut.adoption) == (None, "", False)
    assert (adopted.record, adopted.system, adopted.adoption) == (None, "88", True)


def test_a_missing_repository_has_its_own_error(fake: Fake) -> None:
    fake(snapshots="exit 10")
    with pytest.raises(NoRepository, match="there is no repository"):
        REPO.runs()
