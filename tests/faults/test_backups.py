"""Everything that can go wrong with a backup: a clear message, a failed unit, a mail, nothing half that could be
restored, and a next run that succeeds."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from support.cache import user_cache
from tests.machines.backups import STATE, UNIT, Backups, mails, restic_script, seed
from tests.machines.image import ImageLab
from tests.machines.lab import wait_for
from toolchain.build import native_restic

# A name of this run's own: in a cloud that is kept, the last run's cluster owns the last run's backups.
ENVIRONMENT = f"faulty-{secrets.token_hex(2)}"
BUCKET = f"zmanim-backups-{ENVIRONMENT}"
S3 = "s3.eu-west-1.amazonaws.com"
# restic asks by the bucket's own name.
NAMES = f"{S3} {BUCKET}.{S3}"
# What a run says when the largest dump is in the repository: some parts are there, and more are to come.
STORED = "zmanim: .* bytes"


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

    def mails(self) -> list[dict[str, Any]]:
        """Return the mails of its environment, the oldest first."""
        return [mail for mail in mails(self.images) if mail["subject"].startswith(f"zmanim {ENVIRONMENT}: ")]

    def forget_mails(self) -> None:
        """Let the next failure be mailed about: otherwise one unit is, once an hour."""
        self.run("rm -rf /var/lib/zmanim-notices")

    def check_refusal(self, *words: str, good: str, started: bool = False) -> None:
        """Start the unit (or find it started), which must fail, say these words, mail, and leave nothing half."""
        before = len(self.mails())
        said = self.backups.fail() if not started else self._failed()
        for word in words:
            assert re.search(word, said), said
        wait_for(lambda: len(self.mails()) > before, 60, "a mail")
        mail = self.mails()[-1]
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
    # The shipped one is emulated on another kind of processor, and eight times slower: forty runs would take an hour.
    images.put(made.machine, "/usr/local/bin/restic", native_restic(user_cache()).read_bytes())
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
        (0, 1, "command failed"),
        (50, 1, "command failed"),
        (99, 1, "command failed"),
        (0, 0, "gave nothing, or not all"),
        # Killed so that nobody noticed: only reading to the end finds it; pg_restore --list would not.
        (99, 0, "can't be read to its end"),
    ],
)
def test_a_dump_that_is_not_whole_is_no_backup(
    patient: Patient, good: str, percent: int, code: int, words: str
) -> None:
    with dying_dump(patient, percent, code):
        patient.check_refusal(words, good=good)
    assert patient.backups.succeed() != good


@pytest.mark.parametrize(
    ("unit", "words"), [("postgresql", "connection to server on socket .* failed"), ("redis", "redis.sock")]
)
def test_a_server_that_is_down_is_a_failed_backup(patient: Patient, good: str, unit: str, words: str) -> None:
    patient.run(f"systemctl stop {unit}")
    try:
        patient.check_refusal(words, good=good)
    finally:
        patient.run(f"systemctl start {unit} zmanim-api")
    patient.backups.succeed()


@pytest.mark.parametrize("signal", ["TERM", "KILL"])
def test_a_killed_backup_is_in_nobody_s_way(patient: Patient, good: str, signal: str) -> None:
    patient.backups.begin()
    wait_for(lambda: re.search(STORED, patient.backups.journal()), 120, STORED)
    patient.run(f"systemctl kill --signal={signal} {UNIT}")
    patient.check_refusal(good=good, started=True)
    patient.backups.succeed()
    assert patient.run("ls -A /data/backup") == "lock"


def test_after_a_power_cut_nothing_half_is_restored_and_the_next_run_succeeds(patient: Patient, good: str) -> None:
    boots = len(patient.images.said(patient.machine))
    patient.backups.begin()
    wait_for(lambda: re.search(STORED, patient.backups.journal()), 120, STORED)
    patient.images.ec2.stop_instances(InstanceIds=[patient.machine], Force=True)
    patient.images.wait_state(patient.machine, "stopped")
    patient.images.ec2.start_instances(InstanceIds=[patient.machine])
    patient.images.expect_ready(patient.machine, boot=boots + 1)
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


# ---- S3 ----


def test_an_s3_that_is_away_is_told_before_anything_is_tried(patient: Patient, good: str) -> None:
    patient.run(f"cp /etc/hosts /run/hosts; echo 127.0.0.9 {NAMES} >>/etc/hosts")
    try:
        patient.check_refusal("S3 can't be reached", good="")
    finally:
        patient.run("cat /run/hosts >/etc/hosts")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


def test_a_wrong_password_is_called_that_and_makes_nothing(patient: Patient, good: str) -> None:
    path = "/run/zmanim/secrets/backup/restic-password"
    patient.run(f"cp {path} /run/kept; echo changed >{path}")
    try:
        patient.check_refusal(f"/zmanim/{ENVIRONMENT}/restic-password is not the password of", good="")
    finally:
        patient.run(f"cat /run/kept >{path}; rm /run/kept")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()


def test_another_host_s_lock_fails_the_thinning_out_and_not_the_backup(patient: Patient, good: str) -> None:
    kept = set(patient.run(restic_script("list locks")).split())
    lock = "(restic backup --host x --stdin-filename x --stdin-from-command -- sleep 60 & echo $! >/run/pid; wait)"
    script = restic_script("version").replace("restic version", f"unshare --uts bash -c 'hostname other; {lock}'")
    # In a file: systemd-run would put its own variables in the place of the script's.
    patient.run(f"cat >/run/locker.sh <<'END'\n{script}\nEND\nsystemd-run --unit=locker --quiet bash /run/locker.sh")
    wait_for(lambda: set(patient.run(restic_script("list locks")).split()) - kept, 30, "a lock")
    patient.run("kill -KILL $(cat /run/pid); systemctl stop locker")
    # Something to thin out: a second run of today.
    patient.check_refusal("is locked, by another run or by one that was killed", good="")
    newest = patient.backups.complete()[0]["run"]
    assert newest != good
    # What 30 minutes do: the lock is nobody's.
    patient.run(restic_script("unlock --remove-all"))
    patient.backups.succeed()


def test_a_flipped_byte_is_found_within_four_weeks_and_by_whoever_restores_it(patient: Patient, good: str) -> None:
    s3 = patient.images.client("s3")
    packs = s3.list_objects_v2(Bucket=BUCKET, Prefix="restic/data/")["Contents"]
    key = max(packs, key=lambda item: item["Size"])["Key"]
    whole = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    broken = bytearray(whole)
    broken[len(whole) // 3] ^= 0x01
    s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(broken))
    try:
        found = [
            patient.images.try_run(patient.machine, restic_script(f"check --read-data-subset={n}/4"))["Status"]
            for n in range(1, 5)
        ]
        assert sorted(found) == ["Failed", "Success", "Success", "Success"]
        # Without reading the data there is nothing to see.
        assert patient.images.try_run(patient.machine, restic_script("check"))["Status"] == "Success"
        restored = patient.images.try_run(patient.machine, f"/opt/zmanim/restore.sh --run {good}")
        assert restored["Status"] == "Failed", restored
    finally:
        s3.put_object(Bucket=BUCKET, Key=key, Body=whole)
    assert patient.backups.succeed() != good


def test_a_full_volume_fails_the_backup_and_leaves_no_half_file(patient: Patient, good: str) -> None:
    # As root, who may use what is reserved too; to the last block.
    patient.run(
        "fallocate --length=$(($(df --output=avail --block-size=1 /data | tail -n 1) - 8192)) /data/full || true"
    )
    patient.run("dd if=/dev/zero of=/data/full2 bs=4096 2>/dev/null || true")
    try:
        patient.check_refusal("No space left|redis.rdb|Error writing", good="")
    finally:
        patient.run("rm -f /data/full /data/full2")
    patient.run("systemctl start postgresql redis zmanim-api")
    assert patient.backups.complete()[0]["run"] == good
    patient.backups.succeed()
    assert patient.run("ls -A /data/backup") == "lock"


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


def test_what_is_there_in_the_end_is_what_was_put_there(patient: Patient) -> None:
    run = patient.backups.succeed()
    before = patient.run(STATE)
    told = json.loads(patient.run(f"/opt/zmanim/restore.sh --run {run} --json"))
    assert told["run"] == run
    assert patient.run(STATE) == before
