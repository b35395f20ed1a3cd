"""Which firmware a machine needs is known from its disk, and a host that lacks it is told the packages."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from localcloud.machine.qemu import firmware
from tests.support.errors import raises


def test_only_a_disk_with_a_boot_loader_needs_firmware(tmp_path: Path) -> None:
    assert firmware.of(tmp_path) is None
    (tmp_path / firmware.ARCHITECTURE).write_text("aarch64\n")
    assert firmware.of(tmp_path) == firmware.FIRMWARE["aarch64"]


@pytest.mark.parametrize(
    ("architecture", "packages"),
    [
        ("x86_64", "mtools ovmf qemu-system-common qemu-system-x86"),
        ("aarch64", "mtools qemu-efi-aarch64 qemu-system-arm qemu-system-common"),
    ],
)
def test_a_host_without_qemu_and_firmware_is_told_both(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, architecture: str, packages: str
) -> None:
    missing = dataclasses.replace(firmware.FIRMWARE[architecture], code=tmp_path / "code", variables=tmp_path / "vars")
    monkeypatch.setitem(firmware.FIRMWARE, architecture, missing)
    with raises("programs-missing") as caught:
        firmware.check(architecture, search=str(tmp_path))
    assert caught.value.exit_code == 3
    assert caught.value.fix == f"apt-get install --yes {packages}"
    assert str(tmp_path / "code") in caught.value.expected


def test_a_host_that_has_all_of_it_is_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("qemu-system-x86_64", "qemu-storage-daemon", "mdir", "code", "variables"):
        (tmp_path / name).touch(mode=0o755)
    there = dataclasses.replace(firmware.FIRMWARE["x86_64"], code=tmp_path / "code", variables=tmp_path / "variables")
    monkeypatch.setitem(firmware.FIRMWARE, "x86_64", there)
    firmware.check("x86_64", search=str(tmp_path))


def test_another_processor_s_machine_is_emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert [firmware.is_emulated(each) for each in ("x86_64", "aarch64")] == [False, True]
