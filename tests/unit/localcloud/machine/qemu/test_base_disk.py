"""The base disk: its partition is where the kernel is told to look, and a kernel that is missing is said so."""

from __future__ import annotations

import os
import struct
import subprocess
from pathlib import Path

import pytest

from localcloud.machine.qemu import base_disk
from localcloud.machine.qemu.base_disk import ROOT_DEVICE, Kernel, make
from tests.support.errors import raises
from tests.support.programs import arguments, on_path


@pytest.fixture
def kernel(tmp_path: Path) -> Kernel:
    modules = tmp_path / "modules" / "6.12.1-cloud"
    (modules / "kernel").mkdir(parents=True)
    (modules / "modules.order").touch()
    (tmp_path / "vmlinuz").write_bytes(b"a kernel")
    return Kernel(tmp_path / "vmlinuz", modules)


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    path = tmp_path / "entry"
    path.mkdir()
    return path


def test_a_disk_has_one_partition_with_the_identity_that_the_kernel_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel, entry: Path
) -> None:
    # The namespaces and the copy are root's; here the file that they would fill is only made.
    on_path(tmp_path, monkeypatch, {"unshare": f"truncate -s 1G {entry / 'disk.raw'}; ls -R over", "depmod": "exit 0"})
    make(tmp_path, kernel, entry, size_gib=1)
    with (entry / "disk.raw").open("rb") as disk:
        table = disk.read(512)
    (signature,) = struct.unpack_from("<I", table, 440)
    status, kind, start, sectors = struct.unpack_from("<B3xB3xII", table, 446)
    assert table[510:] == b"\x55\xaa"
    assert f"PARTUUID={signature:08x}-01" == ROOT_DEVICE
    assert (status, kind, start, (start + sectors) * 512) == (0x80, 0x83, 2048, 1 << 30)
    assert table[462:510] == bytes(48)
    assert sorted(path.name for path in entry.iterdir()) == ["disk.raw", "kernel"]
    # The file system begins where the partition does, and ends with it.
    (call,) = arguments(tmp_path, "unshare")
    assert f"offset={start * 512}" in call[call.index("-E") + 1].split(",")
    assert call[-1] == f"{((1 << 30) - start * 512) >> 10}k"


def test_what_the_local_cloud_adds_lies_below_usr_and_its_service_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    on_path(tmp_path, monkeypatch, {"depmod": "exit 0"})
    base_disk.lay_over(tmp_path / "over", kernel)
    assert [path.name for path in (tmp_path / "over").iterdir()] == ["usr"]
    wanted = tmp_path / "over/usr/lib/systemd/system/sysinit.target.wants/localcloud-agent.service"
    assert wanted.resolve(strict=True).is_file()
    assert (tmp_path / "over/usr/lib/modules/6.12.1-cloud/modules.order").is_file()


def test_programs_for_arm64_have_an_interpreter_on_the_disk_that_the_guest_registers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel
) -> None:
    on_path(tmp_path, monkeypatch, {"depmod": "exit 0"})
    emulator = tmp_path / "qemu-aarch64-static"
    emulator.touch(mode=0o755)
    base_disk.lay_over(tmp_path / "over", kernel, emulator)
    (rule,) = (tmp_path / "over/usr/lib/binfmt.d/localcloud-aarch64.conf").read_text().splitlines()
    *_, interpreter, flags = rule.split(":")
    assert flags == "F"
    assert os.access(tmp_path / "over" / interpreter.removeprefix("/"), os.X_OK)


def test_a_kernel_that_is_not_there_is_said_before_anything_is_made(entry: Path, tmp_path: Path) -> None:
    with raises("kernel-missing", match="vmlinuz"):
        make(tmp_path, Kernel(tmp_path / "vmlinuz", tmp_path / "modules"), entry)
    assert list(entry.iterdir()) == []


def test_a_full_disk_is_told_in_mkfs_s_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel, entry: Path
) -> None:
    on_path(tmp_path, monkeypatch, {"unshare": "echo 'Could not allocate block' >&2; exit 1", "depmod": "exit 0"})
    with raises("disk-failed", match="Could not allocate block"):
        make(tmp_path, kernel, entry)


@pytest.mark.parametrize(("words", "none"), [("localcloud.emulated vol1=sdf", True), ("vol1=sdf", False)])
def test_services_have_no_limit_for_their_start_where_the_processor_is_emulated_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: Kernel, words: str, none: bool
) -> None:
    on_path(tmp_path, monkeypatch, {"depmod": "exit 0"})
    base_disk.lay_over(tmp_path / "over", kernel)
    (tmp_path / "chassis").write_text(f"{words}\n")
    (generator,) = (tmp_path / "over/usr/lib/systemd/system-generators").iterdir()
    environment = {"PATH": "/usr/bin:/bin", "LOCALCLOUD_CHASSIS": str(tmp_path / "chassis")}
    out = tmp_path / "generated"
    subprocess.run([generator, out, out, out], env=environment, check=True)
    made = [path.read_text() for path in out.rglob("*.conf")]
    assert made == (["[Service]\nTimeoutStartSec=infinity\n"] if none else [])
