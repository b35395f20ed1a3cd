"""Power cuts while a first boot makes what a new volume lacks: the next boot makes it anew, or refuses and says why."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.test_power_and_kills import damage, power_cut, restart
from tests.machines.image import STORES, ImageLab

# By what is being made: words of the program's command line, and the seconds after it was seen.
MOMENTS = {
    "the cluster, at its start": ("initdb\0--pgdata", 0.0),
    "the cluster": ("initdb\0--pgdata", 0.3),
    "the cluster, towards its end": ("initdb\0--pgdata", 0.7),
    "the database": ("--file=/opt/zmanim/database.sql", 0.0),
    "the extensions": ("--file=/opt/zmanim/database.sql", 0.3),
    "the first migration": ("_extensions_and_time_categories.sql", 0.0),
    "the second migration": ("_cities.sql", 0.0),
}
NEAREST = "curl --silent --fail 'http://127.0.0.1:8080/cities/nearest?lat=31.8&lon=35.2'"


def catch(machine: str, words: str, delay: float = 0.0) -> None:
    """Wait for a program of a machine and stop it `delay` seconds later, in the middle of its work."""
    others: set[str] = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in [path.name for path in Path("/proc").glob("[0-9]*") if path.name not in others]:
            command = Path("/proc", pid, "cmdline")
            try:
                if machine not in Path("/proc", pid, "cgroup").read_text():
                    others.add(pid)
                elif words in command.read_text(errors="replace"):
                    time.sleep(delay)
                    os.kill(int(pid), signal.SIGSTOP)
                    if words in command.read_text(errors="replace"):
                        return
                    os.kill(int(pid), signal.SIGCONT)  # it is at something else by now
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while it was looked at
    raise AssertionError(f"{words} was not seen, or ended within {delay} s")


def cut(images: ImageLab, machine: str, words: str, delay: float = 0.0) -> None:
    """Cut a machine's power while a program of it is at work."""
    catch(machine, words, delay)
    power_cut(images, machine)
    assert images.said(machine) == []


def check_whole(images: ImageLab, machine: str) -> None:
    """Check that a machine is what it would be if nothing had happened."""
    images.expect_ready(machine)
    applied = images.query(machine, "SELECT version FROM schema_migrations ORDER BY 1").split()
    assert applied == images.run(machine, "cd /opt/zmanim/current/migrations; ls | sed 's/[.]sql$//'").split()
    assert "Jerusalem" in images.run(machine, NEAREST)
    images.query(machine, "CREATE EXTENSION amcheck", role="postgres")
    assert damage(images, machine) == 0
    assert images.run(machine, "ls --almost-all /data").split() == [
        ".zmanim-volume.json",
        "backup",
        "postgres",
        "redis",
    ]


@pytest.mark.incident("a half-made cluster was taken for a whole one")
@pytest.mark.parametrize("what", MOMENTS)
def test_what_a_power_cut_left_half_made_is_made_anew(images: ImageLab, what: str) -> None:
    machine = images.start()
    cut(images, machine, *MOMENTS[what])
    restart(images, machine)
    check_whole(images, machine)
    images.terminate(machine)


def test_a_power_cut_while_the_file_system_is_made_ends_in_a_whole_one_or_a_refusal(images: ImageLab) -> None:
    volume = images.new_volume()
    machine = images.start_with(volume)
    cut(images, machine, "mkfs.xfs")
    before = images.digest(volume)
    restart(images, machine)
    told = images.wait_said(machine)
    if told["ok"]:
        check_whole(images, machine)
    else:
        assert "is not blank" in told["checks"]["units"]["detail"]
        assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    assert told["ok"] or images.digest(volume) == before
    images.ec2.delete_volume(VolumeId=volume)


def test_a_file_system_that_was_never_finished_is_refused_and_left_as_it_is(images: ImageLab) -> None:
    """mkfs.xfs writes its label first and takes the mark of an unfinished file system away last."""
    volume = images.new_volume()
    file = images.volume_file(volume)
    subprocess.run(["mkfs.xfs", "-q", "-L", "zmanim-data", file], check=True)
    subprocess.run(["xfs_db", "-x", "-f", "-c", "sb 0", "-c", "write inprogress 1", file], check=True)
    before = images.digest(volume)
    machine = images.start_with(volume)
    told = images.wait_said(machine)
    assert not told["ok"]
    assert "data.mount" in told["checks"]["units"]["detail"]
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    assert images.digest(volume) == before
    images.ec2.delete_volume(VolumeId=volume)
