"""Everything that can go wrong with a backup: a clear message, a failed unit, a mail, nothing half that could be
restored, and a next run that succeeds."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from tests.machines.backups import UNIT, Backups, mails, restic_script, seed
from tests.machines.image import ImageLab
from tests.machines.lab import wait_for

# A name of this run's own: in a cloud that is kept, the last run's cluster owns the last run's backups.
ENVIRONMENT = f"faulty-{secrets.token_hex(2)}"


@dataclass
class Patient:
    """A machine with a good backup that things are done to."""

    images: ImageLab
    backups: Backups

    @property
    def machine(self) -> str:
        """Return its id."""
        return self.backups.machine

    def run(self, script: str) -> str:
        """Run a script on it."""
        return self.images.run(self.machine, script)

    def forget_mails(self) -> None:
        """Let the next failure be mailed about: otherwise one unit is, once an hour."""
        self.run("rm -rf /var/lib/zmanim-notices")

    def check_refusal(self, *words: str, good: str, started: bool = False) -> None:
        """Start the unit (or find it started), which must fail, say these words, mail, and leave nothing half."""
        before = len(mails(self.images))
        said = self.backups.fail() if not started else self._failed()
        for word in words:
            assert re.search(word, said), said
        wait_for(lambda: len(mails(self.images)) > before, 60, "a mail")
        mail = mails(self.images)[-1]
        assert mail["subject"] == f"zmanim {ENVIRONMENT}: {UNIT} failed"
        assert all(re.search(word, mail["body"]) for word in words), mail["body"]
        password = self.images.secrets(ENVIRONMENT)[f"/zmanim/{ENVIRONMENT}/restic-password"]
        assert password not in mail["body"]
        if good:
            assert self.backups.complete()[0]["run"] == good

    def _failed(self) -> str:
        assert not self.backups.wait(), self.backups.journal()
        return self.backups.journal()


@pytest.fixture(scope="module")
def patient(images: ImageLab) -> Iterator[Patient]:
    images.prepare(ENVIRONMENT)
    made = Patient(images, Backups(images, images.serve(ENVIRONMENT)))
    seed(images, made.machine)
    made.backups.succeed()
    yield made
    images.terminate(made.machine)


@pytest.fixture
def good(patient: Patient) -> str:
    """Return the run that --latest has to go on picking."""
    patient.forget_mails()
    return str(patient.backups.complete()[0]["run"])


@contextmanager
def dying_dump(patient: Patient, percent: int, code: int) -> Iterator[None]:
    """Put a pg_dump in the way that writes a part of zmanim's dump and ends with `code`."""
    script = f"""#!/bin/bash
case "$*" in *--dbname=zmanim*) ;; *) exec /usr/bin/pg_dump "$@" ;; esac
whole=$(mktemp); /usr/bin/pg_dump "$@" | cat >"$whole"; size=$(stat --format=%s "$whole")
head --bytes=$((size * {percent} / 100)) "$whole"; rm "$whole"; exit {code}
"""
    patient.run(f"cat >/usr/local/bin/pg_dump <<'END'\n{script}END\nchmod 755 /usr/local/bin/pg_dump")
    try:
        yield
    finally:
        patient.run("rm /usr/local/bin/pg_dump")


@pytest.mark.incident("pg_dump | restic --stdin kept truncated snapshots, and they pushed the good ones out")
@pytest.mark.parametrize(
    ("percent", "code", "words"),
    [
        (99, 1, "command failed"),
        (0, 0, "gave nothing, or not all"),
    ],
)
def test_a_dump_that_is_not_whole_is_no_backup(
    patient: Patient, good: str, percent: int, code: int, words: str
) -> None:
    with dying_dump(patient, percent, code):
        patient.check_refusal(words, good=good)
    assert patient.backups.succeed() != good


@pytest.mark.parametrize(("unit", "words"), [("redis", "redis.sock")])
def test_a_server_that_is_down_is_a_failed_backup(patient: Patient, good: str, unit: str, words: str) -> None:
    patient.run(f"systemctl stop {unit}")
    try:
        patient.check_refusal(words, good=good)
    finally:
        patient.run(f"systemctl start {unit} zmanim-api")
    patient.backups.succeed()


def test_two_at_once_are_one(patient: Patient, good: str) -> None:
    patient.backups.begin()
    wait_for(lambda: "of cluster" in patient.backups.journal(), 60, "the first one's beginning")
    second = patient.images.try_run(
        patient.machine,
        "systemd-run --quiet --wait --pipe --property=User=zmanim-backup --property=SupplementaryGroups=redis"
        " --property=EnvironmentFile=/run/zmanim/environment --property=EnvironmentFile=/etc/restic/backup.conf"
        " --property=LoadCredential=backup:/run/zmanim/secrets/backup /opt/zmanim/backup.sh",
    )
    assert second["Status"] == "Failed"
    assert "another backup is running on this machine" in second["StandardErrorContent"]
    assert patient.backups.wait()
    assert patient.backups.complete()[0]["run"] != good


@pytest.mark.incident("one snapshot dated in the future outlived and hid all that followed")
def test_a_run_from_the_future_is_told_of_and_hides_nothing(patient: Patient, good: str) -> None:
    system = patient.backups.complete()[0]["system"]
    tags = f"--tag run:20400101T030000Z-abcdef --tag part:record --tag system:{system}"
    made = f"--time '2040-01-01 03:00:00' {tags} --stdin --stdin-filename /record.json"
    patient.run("echo '{}' | (" + restic_script(f"backup --quiet --host zmanim {made}") + ")")
    try:
        patient.check_refusal("are dated in the future: 20400101T030000Z-abcdef", good="")
        runs = patient.backups.complete()
        assert runs[0]["future"]
        assert runs[1]["run"] not in {good, runs[0]["run"]}
        told = json.loads(patient.run("/opt/zmanim/restore.sh --latest --json"))
        assert told["run"] == runs[1]["run"]
    finally:
        found = json.loads(patient.backups.restic("snapshots --json --tag run:20400101T030000Z-abcdef"))
        patient.backups.restic(f"forget --quiet {found[0]['id']}")
    patient.backups.succeed()
