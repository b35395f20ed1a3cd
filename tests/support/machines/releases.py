"""What tests of the release channel share: a machine in prod that follows it, and releases that are good or bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support import bucket_name
from tests.support.machines.backups import mails
from tests.support.machines.image import VERSION, ImageLab, copy_work_tree
from tests.support.machines.lab import wait_for

ENVIRONMENT = "prod"
BUCKET = bucket_name("releases", ENVIRONMENT)
HEALTH = "curl --silent --max-time 2 http://127.0.0.1:8080/health || true"
# What a release's program does that is bad, in Go.
CRASHES = "os.Exit(3)"
HANGS = "for { time.Sleep(time.Hour) }"
FAILS = 'http.ListenAndServe(":8080", http.NotFoundHandler())'
MAIN = """package main

import (
\t"net/http"
\t"os"
\t"time"
)

var version = "dev"

func main() {
\tprintln("a bad release", version)
\tif len(os.Args) > 100 {
\t\ttime.Sleep(time.Second)
\t\thttp.NotFoundHandler()
\t}
\t%s
}
"""


@dataclass
class Follower:
    """A machine that follows the channel of prod, and a clone to publish from. Versions only ever grow."""

    images: ImageLab
    clone: Path
    machine: str = ""
    number: int = 0
    restored: list[str] = field(default_factory=list)

    def next_version(self) -> str:
        """Return a version that was not there before."""
        self.number += 1
        return VERSION.removesuffix("0") + str(self.number)

    def api(self, version: str, does: str = "", migration: str = "") -> Path:
        """Make a source tree: the reference API, or a program that `does` something else; with one more migration."""
        tree = self.clone / "build" / f"api-{version}"
        shutil.copytree(self.clone / "api", tree)
        if does:
            shutil.rmtree(tree / "cmd")
            shutil.rmtree(tree / "internal")
            (tree / "cmd" / "api").mkdir(parents=True)
            (tree / "cmd" / "api" / "main.go").write_text(MAIN % does)
            (tree / "go.mod").write_text("module example/api\n\ngo 1.24\n")
            (tree / "go.sum").unlink()
        if migration:
            (tree / "db" / "migrations" / f"20270101{self.number:06d}_of_a_test.sql").write_text(migration)
        return tree

    def publish(self, does: str = "", migration: str = "", *options: str) -> str:
        """Publish a new version by the production task and return it."""
        version = self.next_version()
        tree = self.api(version, does, migration)
        where = ("--environment", ENVIRONMENT, "--api-dir", str(tree))
        self.images.task("release.publish", "--version", version, *where, *options, directory=self.clone)
        return version

    def rollback(self, version: str) -> None:
        """Roll the channel back by the production task."""
        self.images.task("release.rollback", "--to", version, "--environment", ENVIRONMENT, directory=self.clone)

    def restart(self) -> None:
        """Restart the API once."""
        self.images.run(self.machine, "systemctl restart zmanim-api")

    def serves(self) -> str:
        """Return the version that answers now, or nothing."""
        output = self.images.run(self.machine, HEALTH)
        return str(json.loads(output)["data"]["version"]) if output.startswith('{"data"') else ""

    def wait_serves(self, version: str, seconds: float = 60) -> None:
        """Wait until that version answers."""
        try:
            wait_for(lambda: self.serves() == version, seconds, f"{version} to serve")
        except AssertionError as error:
            raise AssertionError(f"{error}; the units said:\n{self.journal()}") from error

    def proven(self) -> str:
        """Wait until what serves is the last good release, and return its version."""
        # A machine that has adopted nothing yet remembers nothing.
        wait_for(lambda: not self.status()["on_probation"], 60, "the probation's end")
        return self.serves()

    def state(self) -> dict[str, Any]:
        """Return what the machine remembers."""
        result: dict[str, Any] = json.loads(self.images.run(self.machine, "cat /data/zmanim/release.json"))
        return result

    def status(self) -> dict[str, Any]:
        """Return what the machine says of the release in force."""
        result: dict[str, Any] = json.loads(self.images.run(self.machine, "cat /run/zmanim/release.json"))
        return result

    def mails(self, version: str) -> list[dict[str, Any]]:
        """Return the mails that the machine has sent about a release that was rolled back."""
        about = f"zmanim {ENVIRONMENT}: {version} was rolled back"
        return [mail for mail in mails(self.images) if mail["subject"].startswith(about)]

    def mailed(self, version: str) -> dict[str, Any]:
        """Wait for the mail about a release that was rolled back, and return it: the only one."""
        wait_for(lambda: self.mails(version), 60, "the mail")
        (mail,) = self.mails(version)
        assert self.machine in mail["body"]
        return mail

    def journal(self) -> str:
        """Return what the units of the channel and the API have said in the last restart, and since."""
        ours = ("api", "migrate", "release", "release-fetch", "release-health", "release-migration")
        named = " ".join(f"--unit=zmanim-{unit}" for unit in ours)
        return self.images.run(self.machine, f"journalctl {named} --no-pager --output=cat | tail -n 60")

    def is_well(self) -> None:
        """See that no unit has failed, whatever the channel had."""
        assert self.images.run(self.machine, "systemctl --failed --plain --no-legend") == ""


@contextmanager
def follower(images: ImageLab, directory: Path, *, probation_seconds: int = 5) -> Iterator[Follower]:
    """Launch a machine in prod whose probations are short, and leave the channel empty at the end."""
    clone = directory / "clone"
    copy_work_tree(clone)
    result = Follower(images, clone)
    try:
        result.machine = images.serve(ENVIRONMENT)
        place = "/etc/systemd/system/zmanim-release-health.service.d"
        setting = f"[Service]\\nEnvironment=ZMANIM_PROBATION_SECONDS={probation_seconds}\\n"
        images.run(result.machine, f"mkdir -p {place}; printf '{setting}' >{place}/test.conf; systemctl daemon-reload")
        yield result
    finally:
        if result.machine:
            images.terminate(result.machine)
        s3 = images.client("s3")
        for each in s3.list_object_versions(Bucket=BUCKET).get("Versions", []):
            s3.delete_object(Bucket=BUCKET, Key=each["Key"], VersionId=each["VersionId"])
