"""The first command of a fresh clone on a fresh Debian 13: its root file system and programs, this host's kernel."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines.roots import CLONE, HostRoot, make
from zmanim_ami.rehearsal.cloud import STATE

FIRST = ("./inv", "rehearse", "--version", "v0.1.0")


@pytest.fixture(scope="module")
def host() -> Iterator[HostRoot]:
    with tempfile.TemporaryDirectory(prefix="host-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
        host = make(Path(directory, "root"), "python3", "ca-certificates")
        try:
            yield host
        finally:
            # What a rehearsal leaves on this host that was killed with its namespaces. By name: what this host keeps of
            # a cloud is named after its directory, whose path there is that of the developer's own here.
            for left in (host.root / STATE.relative_to("/")).glob("[a-z]*"):
                host.run("./inv", "cloud.down", "--name", left.name)


def test_from_nothing_to_a_published_image(host: HostRoot) -> None:
    # Debian has Python's venv module in a package of its own: the one thing that nobody can install for it.
    told = host.run(*FIRST)
    assert (told.returncode, told.stdout) == (3, "")
    assert "apt-get install --yes python3-venv" in told.stderr
    fix = host.run("sh", "-c", "apt-get update && apt-get install --yes python3-venv")
    assert fix.returncode == 0, fix.stderr

    ended = host.run(*FIRST)
    report = host.root / CLONE.lstrip("/") / "build/rehearsal/result.json"
    assert ended.returncode == 0, ended.stderr[-5000:]
    result = json.loads(report.read_text())
    assert result["ok"]
    assert result["published"]["/zmanim/prod/ami-id"] == result["ami_id"]
    # It is this root's systemd-nspawn that the machines ran in.
    assert host.run("systemd-nspawn", "--version").stdout.startswith("systemd 257 ")
