"""One backup, restore or adoption at a time; who has to wait is told for whom."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.waiting import wait_for
from zmanim_host.host import HostError, locked
from zmanim_host.storage import turn
from zmanim_host.storage.turn import Holder

# As backup.sh does it: the program that takes the lock ends, and the lock is the shell's.
SHELL = 'exec 9<"$1"; flock --nonblock 9 || exit 1; echo held; read -r _ <&0'


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    command = ["bash", "-c", SHELL, "backup.sh", str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_who_can_t_have_the_lock_is_told_who_has_it_since_when_and_how_to_end_it(
    tmp_path: Path, shell: subprocess.Popen[str]
) -> None:
    with pytest.raises(HostError) as refused, turn.taken(tmp_path):
        pytest.fail("it is held")
    assert re.search(
        rf"is running on this machine: bash -c .* \(process {shell.pid}\) since 2\d{{3}}-\S+Z\. Nothing was done\."
        rf" To end it: kill {shell.pid}$",
        str(refused.value),
        re.DOTALL,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_kernel_frees_it_however_its_holder_dies(
    tmp_path: Path, shell: subprocess.Popen[str], number: signal.Signals
) -> None:
    assert turn.find_holder(tmp_path)
    shell.send_signal(number)
    shell.wait(10)
    with turn.taken(tmp_path):
        holder = turn.find_holder(tmp_path)
        assert holder
        assert holder.pid == os.getpid()
    assert turn.find_holder(tmp_path) is None


def test_it_is_held_for_as_long_as_one_of_a_backup_s_processes_lives(tmp_path: Path) -> None:
    # What a killed shell leaves running still writes.
    script = f'exec 9<"{tmp_path}"; flock --nonblock 9; sleep 60 >/dev/null & echo $!; wait'
    with subprocess.Popen(["bash", "-c", script], stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout
        child = int(shell.stdout.readline())
        shell.kill()
    holder = turn.find_holder(tmp_path)
    assert holder
    assert holder.pid == child
    os.kill(child, signal.SIGKILL)
    assert wait_for(lambda: turn.find_holder(tmp_path) is None, 5)


def test_a_unit_s_run_is_ended_by_systemd() -> None:
    assert Holder(7, "restic-backup.service").end == "systemctl stop restic-backup.service"
    assert Holder(7, "bash restore.sh").end == "kill 7"


def proc(place: Path, folder: Path, *, mine: bool) -> Path:
    """A /proc in which one process of a unit holds the lock of `folder`."""
    status = folder.stat()
    where = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    lock = f"FLOCK  ADVISORY  WRITE 42 {where} 0 EOF"
    (place / "42/fd").mkdir(parents=True)
    (place / "42/fdinfo").mkdir()
    (place / "locks").write_text(f"1: POSIX  ADVISORY  READ 7 {where} 0 EOF\n2: {lock}\n")
    (place / "stat").write_text("cpu 1\nbtime 1764385200\n")
    if mine:
        (place / "42/fd/9").symlink_to(folder)
        (place / "42/fdinfo/9").write_text(f"pos: 0\nlock:\t1: {lock}\n")
        (place / "42/stat").write_text("42 (a b) S " + " ".join(["0"] * 18) + " 100 0\n")
        (place / "42/cgroup").write_text("0::/system.slice/backup-drill.service\n")
        (place / "42/cmdline").write_bytes(b"python3\0-sE\0")
    return place


def test_a_drill_is_told_by_its_unit_and_another_user_s_process_by_its_number(tmp_path: Path) -> None:
    folder = tmp_path / "backup"
    folder.mkdir()
    holder = turn.find_holder(folder, proc(tmp_path / "mine", folder, mine=True))
    assert holder == Holder(42, "backup-drill.service", "2025-11-29T03:00:01Z")
    assert turn.find_holder(folder, proc(tmp_path / "other", folder, mine=False)) == Holder(42)
    refusal = turn.refusal(folder, tmp_path / "other")
    assert "somebody (process 42). Nothing was done. To end it: kill 42" in refusal


def test_nobody_is_named_when_it_was_freed_meanwhile(tmp_path: Path) -> None:
    assert "a moment ago" in turn.refusal(tmp_path)
    with locked(tmp_path):
        assert str(os.getpid()) in turn.refusal(tmp_path)


def test_another_process_of_ours_is_told_by_its_command(tmp_path: Path) -> None:
    locks = f"f = os.open({str(tmp_path)!r}, 0); fcntl.flock(f, 2)"
    script = f"import fcntl, os, sys; {locks}; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        assert f"(process {process.pid})" in turn.refusal(tmp_path)
        process.kill()
    assert wait_for(lambda: turn.find_holder(tmp_path) is None, 5)
