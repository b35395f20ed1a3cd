"""The processes of a machine's disks: born in its control groups, ended with it, each on a socket of its own."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.machine.qemu.drives import Drives, command
from tests.support.programs import on_path


@pytest.fixture
def drives(tmp_path: Path) -> Iterator[Drives]:
    """Drives of a machine whose control group is a directory."""
    (tmp_path / "sockets").mkdir()
    (tmp_path / "group").mkdir()
    (tmp_path / "disk").write_bytes(bytes(1 << 20))
    made = Drives(tmp_path / "sockets")
    yield made
    made.kill("root-disk")


def start(drives: Drives, directory: Path) -> int:
    """Start the cache of a disk; return its process's id."""
    drives.start("root-disk", directory / "disk", [directory / "group"], directory / "log")
    return drives._processes["root-disk"].pid


def connect(directory: Path) -> socket.socket:
    end = socket.socket(socket.AF_UNIX)
    end.connect(str(directory / "sockets/root-disk"))
    end.settimeout(20)
    assert end.recv(8) == b"NBDMAGIC"
    return end


def test_a_cache_is_born_in_the_machine_s_group_and_listens_before_it_runs(drives: Drives, tmp_path: Path) -> None:
    start(drives, tmp_path)
    with connect(tmp_path):
        assert (tmp_path / "group/cgroup.procs").read_text() == "0\n"  # which means: who writes it
    assert (tmp_path / "log").read_bytes() == b""


def test_a_cache_ends_with_its_qemu_and_leaves_no_socket_and_no_zombie(drives: Drives, tmp_path: Path) -> None:
    pid = start(drives, tmp_path)
    connect(tmp_path).close()
    drives.end_all()
    assert not Path(f"/proc/{pid}").exists()
    assert list((tmp_path / "sockets").iterdir()) == []


def test_a_cache_that_no_qemu_came_to_is_killed(drives: Drives, tmp_path: Path) -> None:
    pid = start(drives, tmp_path)
    drives.kill("root-disk")
    drives.kill("root-disk")
    assert not Path(f"/proc/{pid}").exists()


def test_a_cache_that_does_not_end_is_ended(drives: Drives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("localcloud.machine.qemu.drives._END_SECONDS", 0.1)
    pid = start(drives, tmp_path)
    drives.end("root-disk")
    assert not Path(f"/proc/{pid}").exists()


def test_a_disk_that_can_t_be_opened_is_told_in_the_log(drives: Drives, tmp_path: Path) -> None:
    (tmp_path / "disk").unlink()
    start(drives, tmp_path)
    drives.end("root-disk")
    assert "No such file or directory" in (tmp_path / "log").read_text()


def test_a_cache_reads_no_settings_of_who_started_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, {"python3": "exit 1"})
    words = command(7, tmp_path / "disk", 4096)
    assert words[1:3] == ["-I", "-S"]
    assert Path(words[0]).is_absolute()
    assert words[-3:] == ["7", str(tmp_path / "disk"), "4096"]
