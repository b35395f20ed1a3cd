"""Power cuts while a first boot makes what a new volume lacks: the next boot makes it anew, or refuses and says why."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.faults.power.test_power_and_kills import damage, power_cut, restart
from tests.support.machines.image import STORES, ImageLab
from tests.support.machines.lab import wait_for

# By what is being made: words of the command line of the program that makes it, and what it has made by then.
CLUSTER = "/data/.postgres.unfinished"
MOMENTS = {
    "the cluster, at its start": ("initdb\0--pgdata", ""),
    # The folder of template1, before anything is put into it; and that of template0, the last but one.
    "the cluster": ("initdb\0--pgdata", f"{CLUSTER}/base/1"),
    "the cluster, towards its end": ("initdb\0--pgdata", f"{CLUSTER}/base/4"),
    "the database": ("--file=/opt/zmanim/database.sql", ""),
    # What a server's process calls itself.
    "the extensions": ("zmanim [local] CREATE EXTENSION", ""),
}
NEAREST = "curl --silent --fail 'http://127.0.0.1:8080/cities/nearest?lat=31.8&lon=35.2'"


def catch(machine: str, words: str, made: str = "") -> None:
    """Wait for a program of a machine that has made a file or a folder, and stop it in the middle of its work."""
    others: set[str] = set()
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for pid in [path.name for path in Path("/proc").glob("[0-9]*") if path.name not in others]:
            command = Path("/proc", pid, "cmdline")
            try:
                if machine not in Path("/proc", pid, "cgroup").read_text():
                    others.add(pid)
                elif words in command.read_text(errors="replace") and Path(f"/proc/{pid}/root{made}").exists():
                    os.kill(int(pid), signal.SIGSTOP)
                    if words in command.read_text(errors="replace"):
                        return
                    os.kill(int(pid), signal.SIGCONT)  # it is at something else by now
            except (FileNotFoundError, ProcessLookupError):
                continue  # it ended while it was looked at
    raise AssertionError(f"{words!r} was not seen, or not when it had made {made or 'anything'}")


def cut(images: ImageLab, machine: str, words: str, made: str = "") -> None:
    """Cut a machine's power while a program of it is at work."""
    catch(machine, words, made)
    power_cut(images, machine)
    assert images.ready_reports(machine) == []


def check_whole(images: ImageLab, machine: str) -> None:
    """Check that a machine is what it would be if nothing had happened."""
    images.expect_ready(machine)
    applied = images.query(machine, "SELECT version FROM schema_migrations ORDER BY 1").split()
    assert applied == images.run(machine, "cd /opt/zmanim/current/migrations; ls | sed 's/[.]sql$//'").split()
    assert "Jerusalem" in images.run(machine, NEAREST)
    images.query(machine, "CREATE EXTENSION amcheck", role="postgres")
    assert damage(images, machine) == 0
    assert images.run(machine, "ls --almost-all /data").split() == [
        ".zmanim-reserve",
        ".zmanim-volume.json",
        "backup",
        "postgres",
        "redis",
    ]


@pytest.mark.fault(
    10,
    injected="a power cut within initdb, the making of the database or of its extensions",
    must="the next boot makes it anew and serves, amcheck finds nothing",
)
@pytest.mark.incident("a half-made cluster was taken for a whole one")
@pytest.mark.parametrize("what", MOMENTS)
def test_what_a_power_cut_left_half_made_is_made_anew(images: ImageLab, what: str) -> None:
    machine = images.start()
    cut(images, machine, *MOMENTS[what])
    restart(images, machine)
    check_whole(images, machine)
    images.terminate(machine)


@pytest.mark.fault(10, injected="a power cut while mkfs.xfs runs", must="the next boot serves, amcheck finds nothing")
def test_what_a_power_cut_left_of_a_file_system_is_made_anew(images: ImageLab) -> None:
    machine = images.start()
    cut(images, machine, "mkfs.xfs")
    restart(images, machine)
    check_whole(images, machine)
    images.terminate(machine)


def unfinished(file: Path, upto: int | None = None) -> None:
    """Leave on a volume what mkfs.xfs does before it takes its mark away; `upto`, in bytes, cuts it short earlier."""
    size = file.stat().st_size
    subprocess.run(["mkfs.xfs", "-q", "-L", "zmanim-data", file], check=True)
    mark(file)
    if upto is not None:
        os.truncate(file, upto)
        os.truncate(file, size)


def mark(file: Path) -> None:
    """Mark a file system as one that mkfs.xfs has not finished."""
    subprocess.run(["xfs_db", "-x", "-f", "-c", "sb 0", "-c", "write inprogress 1", file], check=True)


@pytest.mark.fault(
    1,
    injected="a later boot of a launch that still consents",
    must="the volume is not formatted a second time, its rows are there",
)
@pytest.mark.fault(
    10,
    injected="a file system that mkfs.xfs left unfinished at any of four places",
    must="with consent it is made anew, said in the journal, and the machine serves",
)
@pytest.mark.parametrize("upto", [512, 4096, 600 << 20, None])
def test_a_file_system_that_was_never_finished_is_made_anew(images: ImageLab, upto: int | None) -> None:
    """mkfs.xfs writes its label first and takes the mark of an unfinished file system away last."""
    volume = images.new_volume()
    unfinished(images.volume_file(volume), upto)
    machine = images.start_with(volume)
    check_whole(images, machine)
    output = images.run(machine, "journalctl --unit=zmanim-data-volume --no-pager --output=cat")
    assert "made the file system anew that mkfs.xfs never finished, as the launch says" in output
    # And a finished one is never formatted again, though the launch goes on consenting.
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    power_cut(images, machine)
    restart(images, machine)
    images.expect_ready(machine, boot=2)
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    images.terminate(machine)
    images.ec2.delete_volume(VolumeId=volume)


@pytest.mark.fault(
    10,
    injected="an unfinished file system, and a launch that does not consent",
    must="its SHA-256 is what it was, until an operator has it made anew",
)
def test_without_consent_an_unfinished_file_system_waits_for_the_operator(images: ImageLab) -> None:
    volume = images.new_volume()
    unfinished(images.volume_file(volume))
    before = images.digest(volume)
    machine = images.start_with(volume, consent=False)
    report = images.wait_report(machine)
    assert not report["ok"]
    assert "never finished (sb_inprogress is 1)" in report["checks"]["units"]["detail"]
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    assert images.digest(volume) == before
    images.run(
        machine,
        "/opt/zmanim/zmanim-host format-data-volume /dev/sdf"
        " && systemctl start zmanim-data-volume && systemctl start zmanim.target && systemctl restart zmanim-ready",
    )
    assert images.ready_reports(machine)[-1]["ok"]
    images.terminate(machine)
    images.ec2.delete_volume(VolumeId=volume)


@pytest.mark.fault(
    4,
    injected="an XFS with data, marked as one that was never finished",
    must="its SHA-256 is what it was, no service starts",
)
@pytest.mark.incident("a boot script formatted what it did not know")
def test_the_mark_on_a_file_system_with_data_does_not_make_it_a_new_one(images: ImageLab) -> None:
    """As xfs_copy leaves a copy that was cut short."""
    machine = images.serve(keep=True)
    volume = images.volume_of(machine)
    images.terminate(machine)
    mark(images.volume_file(volume))
    before = images.digest(volume)
    machine = images.start_with(volume)
    report = images.wait_report(machine)
    assert not report["ok"]
    reason = report["checks"]["units"]["detail"]
    assert "it was mounted once" in reason
    assert "left untouched" in reason
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    assert images.digest(volume) == before
    images.ec2.delete_volume(VolumeId=volume)


@pytest.mark.fault(
    10,
    injected="a power cut within the first migration",
    must="nothing of it is there, the next boot applies it whole",
)
def test_a_power_cut_inside_a_migration_leaves_nothing_of_it(images: ImageLab) -> None:
    """Of the very first one, which waits for a lock: by then it has made a table and written a row."""
    machine = images.start(data=False)
    wait_for(lambda: images.online(machine), 60, "the agent")
    half = "CREATE TABLE half_made (n int); INSERT INTO half_made VALUES (1); SELECT pg_advisory_xact_lock(42);"
    images.run(
        machine,
        "systemctl mask --runtime zmanim-migrate;"
        f"echo '{half}' >/opt/zmanim/current/migrations/00000000000000_half.sql",
    )
    volume = images.new_volume()
    images.ec2.attach_volume(InstanceId=machine, VolumeId=volume, Device="/dev/sdf")
    wait_for(lambda: "active" in images.active(machine, "zmanim-database").values(), 60, "the database")
    images.run(
        machine,
        "systemd-run --quiet --uid=zmanim --working-directory=/ --unit=holder psql zmanim"
        " --command='SELECT pg_advisory_lock(42)' --command='SELECT pg_sleep(3600)'",
    )
    locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42 AND granted"
    wait_for(lambda: images.query(machine, f"{locks}").strip() == "1", 30, "the lock")
    images.run(machine, "systemctl unmask --runtime zmanim-migrate; systemctl start --no-block zmanim-migrate")
    waiting = "SELECT query FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND wait_event = 'advisory'"
    wait_for(lambda: "pg_advisory_xact_lock(42)" in images.query(machine, waiting), 30, "the migration")
    assert images.query(machine, "SELECT count(*) FROM schema_migrations").strip() == "0"
    power_cut(images, machine)
    restart(images, machine)
    check_whole(images, machine)
    assert images.query(machine, "SELECT n FROM half_made").split() == ["1"]
    images.terminate(machine)
    images.ec2.delete_volume(VolumeId=volume)
