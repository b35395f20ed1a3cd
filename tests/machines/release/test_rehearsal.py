"""A rehearsal that can't be done says so at once, and one that is killed leaves nothing on this host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from localcloud.host.cgroups import cloud_groups
from localcloud.settings import link_name
from tests.support import ROOT
from tests.support.machines.lab import wait_for
from zmanim_ami.rehearsal import cloud as clouds
from zmanim_ami.rehearsal.owner import owner_of

INVOKE = [sys.executable, "-m", "invoke"]


def _clouds_of(pid: int) -> list[str]:
    named = [(name, owner_of(name)) for name in clouds.names(clouds.STATE)]
    return [name for name, owner in named if owner is not None and owner.pid == pid]


def _remains(name: str, pid: int) -> dict[str, list[str]]:
    """Return what on this host still belongs to a cloud: other clouds may come and go meanwhile."""

    def lines(*command: str) -> list[str]:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()

    link = link_name(clouds.STATE / name)
    groups = cloud_groups(clouds.STATE / name)
    return {
        "mounts": [line for line in Path("/proc/self/mounts").read_text().splitlines() if name in line],
        "loop devices": [line for line in lines("losetup", "--all") if name in line],
        "links": [line for line in lines("ip", "-brief", "link") if link in line],
        "control groups": [str(group) for group in groups if group.exists()],
        "directory": [str(path) for path in [clouds.STATE / name] if path.exists()],
        "processes": _owned(pid),
    }


def _start(clone_result: Path, version: str) -> subprocess.Popen[bytes]:
    with clone_result.open("wb") as log:
        return subprocess.Popen(
            [*INVOKE, "rehearse", "--version", version],
            cwd=ROOT,
            env={**os.environ, "CI": "true"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def test_a_version_that_is_none_is_refused_before_anything_is_done() -> None:
    ended = subprocess.run(
        [*INVOKE, "rehearse", "--version", "1.0"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "v1.2.3" in ended.stderr


@pytest.mark.parametrize(
    ("number", "moment"),
    [(signal.SIGINT, "starting the local cloud"), (signal.SIGTERM, "Launching a source AWS instance")],
)
def test_an_interrupted_rehearsal_takes_its_cloud_down_and_writes_down_that_it_failed(
    tmp_path: Path, number: signal.Signals, moment: str
) -> None:
    with _start(tmp_path / "log", "v0.2.0") as process:
        wait_for(lambda: moment in (tmp_path / "log").read_text(), 60, moment)
        process.send_signal(number)
        assert process.wait(90) == 130, (tmp_path / "log").read_text()
        assert _clouds_of(process.pid) == []
    result = json.loads((ROOT / "build/rehearsal/result.json").read_text())
    assert result["ok"] is False
    assert result["error"]


def test_what_a_killed_rehearsal_leaves_is_gone_after_cloud_down(tmp_path: Path) -> None:
    with _start(tmp_path / "log", "v0.3.0") as process:
        (name,) = wait_for(lambda: _clouds_of(process.pid), 60, "the rehearsal's cloud")
        wait_for(lambda: "Launching a source AWS instance" in (tmp_path / "log").read_text(), 60, "a builder")
        process.kill()
        process.wait()
    remaining = _remains(name, process.pid)
    assert remaining["links"]
    assert remaining["control groups"]
    assert remaining["processes"]
    subprocess.run([*INVOKE, "cloud.down", "--name", name], cwd=ROOT, check=True, capture_output=True)
    assert {what: result for what, result in _remains(name, process.pid).items() if result} == {}


def _owned(pid: int) -> list[str]:
    """Return the command lines of the processes that the rehearsal `pid` owns."""
    result = []
    for entry in Path("/proc").iterdir():
        try:
            if (
                entry.name.isdigit()
                and f"REHEARSAL_OWNER=rehearsal-{pid}-".encode() in (entry / "environ").read_bytes()
            ):
                result.append((entry / "cmdline").read_text())
        except OSError:
            continue  # it has just ended
    return result
