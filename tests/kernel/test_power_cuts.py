"""A power cut of a whole machine: what was flushed is there afterwards, what its disks' caches had is not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.host import cgroups
from localcloud.settings import Cloud, CloudSettings
from tests.support.machines.lab import wait_for
from tests.support.power_cuts.guest import Cuts, guest

CUTS = 20
# Of each writer, between two cuts.
LEAST = 20


@pytest.fixture(scope="module")
def cuts(workspace: Path, base_root: Path, cloud_settings: CloudSettings) -> Iterator[Cuts]:
    with guest(workspace, base_root, cloud_settings) as running:
        yield running


@pytest.mark.fault(
    18,
    injected="20 power cuts that take the disks' own caches along",
    must="every row and file that was synced is there, and nearly nothing that was not",
)
def test_a_synced_row_outlives_every_cut_and_one_that_was_not_synced_nearly_none(cuts: Cuts) -> None:
    cuts.call("start")
    lost: list[dict[str, int]] = []
    for _ in range(CUTS):
        cuts.write(least=LEAST)
        cuts.cut()
        lost.append(cuts.lost())
        print(f"acknowledged {cuts.acknowledged}, lost {lost[-1]}", flush=True)
    assert [each["on"] for each in lost] == [0] * CUTS
    assert [each["file"] for each in lost] == [0] * CUTS
    assert sum(each["off"] > 0 for each in lost) >= 0.9 * CUTS
    assert sum(each["redis"] > 0 for each in lost) >= 0.9 * CUTS


@pytest.mark.parametrize("place", ["/data/direct", "/srv/direct"])
@pytest.mark.incident("a power cut lost nothing that the kernel had written: the host kept what was not flushed")
def test_what_a_disk_had_taken_and_not_flushed_is_lost(cuts: Cuts, place: str) -> None:
    """Past the guest's own cache, so that only the disk's has it: the data volume's and the root's."""
    cuts.call("direct", "old", place)
    cuts.lab.run(cuts.machine, "sync")
    cuts.call("direct", "unflushed", place)
    cuts.cut()
    assert cuts.lab.run(cuts.machine, f"head -n 1 {place}") == "old"
    cuts.call("direct", "flushed", place)
    cuts.lab.run(cuts.machine, f"sync {place}")
    cuts.cut()
    assert cuts.lab.run(cuts.machine, f"head -n 1 {place}") == "flushed"


@pytest.mark.parametrize("place", ["/data/synced", "/srv/synced"])
@pytest.mark.incident("a file that had been synced was gone: QEMU's NVMe drops FUA, which its journal's commit had")
def test_a_file_that_was_synced_is_there_with_nothing_flushed_after_it(cuts: Cuts, place: str) -> None:
    cuts.lab.run(cuts.machine, f"sync; echo there >{place} && sync {place}")
    cuts.cut()
    assert cuts.lab.run(cuts.machine, f"cat {place}") == "there"


def kill_cache(cloud: Cloud, file: str) -> None:
    """Kill the write cache in front of a file whose name begins like that."""
    for pid in cgroups.members(cgroups.cloud_groups(cloud.directory)[0]):
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")
        if any(word.endswith("write_cache.py") for word in words) and words[-3].startswith(file):
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError(f"no cache of {file}")


@pytest.mark.fault(
    12,
    injected="a data disk that is dead while its machine runs on: every write and flush fails",
    must="the file system shuts down and says so, and what was synced before is there after a power cut",
)
def test_a_dead_cache_is_a_disk_that_fails_while_its_machine_runs_on(cuts: Cuts) -> None:
    cuts.lab.run(cuts.machine, "echo kept >/data/kept; sync")
    kill_cache(cuts.lab.cloud, "/dev/loop")
    failed = cuts.lab.try_run(cuts.machine, "echo more >/data/more && sync /data/more")
    assert "Input/output error" in failed["StandardErrorContent"]
    wait_for(lambda: "cat: /data/kept: Input/output error" in read(cuts), 30, "a file system that has shut down")
    assert cuts.lab.state(cuts.machine) == "running"
    cuts.cut()
    assert cuts.lab.run(cuts.machine, "cat /data/kept") == "kept"


def read(cuts: Cuts) -> str:
    answer = cuts.lab.try_run(cuts.machine, "cat /data/kept")
    return str(answer["StandardErrorContent"])
