"""A machine with a good backup that things are done to, and what is done to it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support import bucket_name
from tests.support.machines.backups import UNIT, Backups, mails, seed
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for
from zmanim_ami import toolchain
from zmanim_ami.toolchain.environment import user_cache

# What keeps a machine of these tests from proving its backups.
WITHOUT_PROOFS = Path("/etc/systemd/system/backup-proof.service.d/never.conf")
NOTICE = f"backup-notify@{UNIT}.service"


@dataclass
class BackupHost:
    """A machine with a good backup that things are done to."""

    images: ImageLab
    backups: Backups
    environment: str
    # How many mails there had been when the test began.
    mails_before: int = 0

    @property
    def bucket(self) -> str:
        """Return the name of the bucket that has its backups."""
        return bucket_name("backups", self.environment)

    @property
    def machine(self) -> str:
        """Return its id."""
        return self.backups.machine

    def run(self, script: str) -> str:
        """Run a script on it."""
        return self.images.run(self.machine, script)

    def run_long(self, script: str) -> str:
        """Run a script on it that may take longer than the agent's patience."""
        return self.images.enter(self.machine, ["bash", "-c", script])

    def forget_mails(self) -> None:
        """Let the next failure be mailed about: otherwise one unit is, once an hour."""
        # It may be about the last failure still: its files are not to vanish under it.
        wait_for(lambda: self.images.active(self.machine, NOTICE)[NOTICE] != "activating", 90, f"{NOTICE}'s end")
        self.run("rm -rf /var/lib/zmanim-notices")
        self.mails_before = len(mails(self.images))

    def mails_about(self, unit: str = UNIT) -> list[Mapping[str, Any]]:
        """Return the mails of this test that tell of a unit's failure: on a slow host others may fail as well."""
        subject = f"zmanim {self.environment}: {unit} failed"
        return [mail for mail in mails(self.images)[self.mails_before :] if mail["subject"] == subject]

    def mail_about(self, unit: str = UNIT) -> Mapping[str, Any]:
        """Wait for the mail that tells of a unit's failure, and return it."""
        wait_for(lambda: self.mails_about(unit), 60, f"a mail about {unit}")
        return self.mails_about(unit)[-1]

    def check_refusal(self, *words: str, good: str, started: bool = False) -> None:
        """Start the unit (or find it started), which must fail, say these words, mail, and leave nothing half."""
        output = self.backups.fail() if not started else self._failed()
        for word in words:
            assert re.search(word, output), output
        mail = self.mail_about()
        assert all(re.search(word, mail["body"]) for word in words), mail["body"]
        password = self.images.secrets(self.environment)[f"/zmanim/{self.environment}/restic-password"]
        assert password not in mail["body"]
        if good:
            assert self.backups.complete()[0]["run"] == good

    def _failed(self) -> str:
        assert not self.backups.wait(), self.backups.journal()
        return self.backups.journal()


@pytest.fixture(scope="module")
def backup_host(images: ImageLab) -> Iterator[BackupHost]:
    # A name of this run's own: in a cloud that is kept, the last run's cluster owns the last run's backups.
    environment = f"faulty-{secrets.token_hex(2)}"
    images.prepare(environment)
    made = BackupHost(images, Backups(images, images.serve(environment)), environment)
    # The shipped one is emulated on another kind of processor, and eight times slower: forty runs would take an hour.
    images.put(made.machine, "/usr/local/bin/restic", toolchain.program(user_cache(), "restic").read_bytes())
    # A proof after each backup would meet what tests put in the programs' way; test_proofs.py has it.
    never = "printf '[Unit]\\nConditionPathExists=/nowhere\\n'"
    made.run(f"mkdir -p {WITHOUT_PROOFS.parent}; {never} >{WITHOUT_PROOFS}; systemctl daemon-reload")
    seed(images, made.machine)
    made.backups.succeed()
    yield made
    images.terminate(made.machine)


@pytest.fixture
def good(backup_host: BackupHost) -> str:
    """Return the run that --latest has to go on picking."""
    backup_host.forget_mails()
    return str(backup_host.backups.complete()[0]["run"])


@contextmanager
def dying_dump(backup_host: BackupHost, percent: int, code: int) -> Iterator[None]:
    """Put a pg_dump in the way that writes a part of zmanim's dump and ends with `code`."""
    script = f"""#!/bin/bash
case "$*" in *--format=custom*--dbname=zmanim*) ;; *) exec /usr/bin/pg_dump "$@" ;; esac
whole=$(mktemp); /usr/bin/pg_dump "$@" | cat >"$whole"; size=$(stat --format=%s "$whole")
head --bytes=$((size * {percent} / 100)) "$whole"; rm "$whole"; exit {code}
"""
    backup_host.run(f"cat >/usr/local/bin/pg_dump <<'END'\n{script}END\nchmod 755 /usr/local/bin/pg_dump")
    try:
        yield
    finally:
        backup_host.run("rm /usr/local/bin/pg_dump")


# Where a run can be held: the program that waits there, and what it does before it waits.
POINTS = {
    "in the middle of a dump": (
        "pg_dump",
        """case "$*" in *--format=custom*--dbname=zmanim*) ;; *) exec /usr/bin/pg_dump "$@" ;; esac
whole=$(mktemp); /usr/bin/pg_dump "$@" | cat >"$whole"; half=$(($(stat --format=%s "$whole") / 2))
head --bytes=$half "$whole"; cat /run/held >/dev/null; exec tail --bytes=+$((half + 1)) "$whole"
""",
    ),
    "between the parts": ("pg_dumpall", 'cat /run/held >/dev/null; exec /usr/bin/pg_dumpall "$@"\n'),
    # The last thing that is asked before the record is written.
    "before the record": ("redis-server", 'cat /run/held >/dev/null; exec /usr/bin/redis-server "$@"\n'),
}


@contextmanager
def held(backup_host: BackupHost, point: str) -> Iterator[None]:
    """Begin a run and hold it at one of POINTS; `go_on` lets it."""
    program, script = POINTS[point]
    place = f"/usr/local/bin/{program}"
    backup_host.run(f"mkfifo --mode=644 /run/held; cat >{place} <<'END'\n#!/bin/bash\n{script}END\nchmod 755 {place}")
    try:
        backup_host.backups.begin()
        wait_for(lambda: backup_host.run(f"{_WAITERS} || true"), 120, f"a run that waits {point}")
        yield
    finally:
        backup_host.run(f"rm -f {place} /run/held")


# Blocked in opening it: nobody writes there yet.
_WAITERS = "pgrep --full '^cat /run/held'"


def go_on(backup_host: BackupHost) -> None:
    """Let a held run go on."""
    backup_host.run("echo >/run/held")
