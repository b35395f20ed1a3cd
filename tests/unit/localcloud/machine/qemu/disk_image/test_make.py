"""A base disk of a disk image is whole or not there, and what could not be done is told by whose fault it is."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from localcloud.machine.qemu.disk_image import layout, make
from tests.support.disks import qcow2
from tests.support.disks.partition_table import EFI, LINUX, SECTOR, Part
from tests.support.errors import raises
from tests.support.programs import arguments, on_path

# What has a kernel of the image's copied: in the place of namespaces, mounts and the process in them.
PUT = """
while [ $# -gt 2 ]; do shift; done
echo a kernel >"$1"
find over -type f >"${HERE}/over"
echo "[]" >"$2"
"""


@pytest.fixture
def image(tmp_path: Path) -> Path:
    root = (Part(1, LINUX, 8192, 16383), b"XFSB" + bytes(SECTOR))
    return qcow2.image(tmp_path / "image.qcow2", [root, (Part(128, EFI, 2048, 4095), b"")])


@pytest.fixture
def entry(tmp_path: Path) -> Path:
    (tmp_path / "entry").mkdir()
    (tmp_path / "ca.pem").write_text("a certificate")
    return tmp_path / "entry"


def programs(
    directory: Path, monkeypatch: pytest.MonkeyPatch, changes: Mapping[str, str], loader: str = "BOOTX64.EFI"
) -> None:
    standing_in = {"qemu-img": qcow2.QEMU_IMG, "mdir": f"echo ::/EFI/BOOT/{loader}", "setpriv": _contained(PUT)}
    on_path(directory, monkeypatch, {**standing_in, **changes})
    monkeypatch.setattr(layout, "copy", qcow2.copy)


def _contained(body: str) -> str:
    # support.process starts each program by setpriv as well.
    return f'case "$*" in *unshare*) ;; *) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;; esac\n{body}'


def test_the_base_has_the_image_s_disk_its_kernel_and_whose_boot_loader_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, entry: Path
) -> None:
    programs(tmp_path, monkeypatch, {})
    emulator = tmp_path / "qemu-aarch64-static"
    emulator.touch()
    make.make(image, entry, tmp_path / "ca.pem", emulator=emulator)
    assert {path.name for path in entry.iterdir()} == {"disk.qcow2", "kernel", "architecture"}
    assert (entry / "disk.qcow2").read_bytes() == image.read_bytes()
    assert (entry / "architecture").read_text() == "x86_64"
    assert "over/usr/lib/localcloud/qemu-aarch64" in (tmp_path / "over").read_text().split()
    (call,) = (each for each in arguments(tmp_path, "setpriv") if "unshare" in each)
    # Nothing of it is seen outside, and it ends with whoever started it.
    assert {"--mount", "--pid", "--kill-child"} < set(call)
    options = next(each for each in call if each.startswith("loop,")).split(",")
    assert {f"offset={8192 * SECTOR}", f"sizelimit={8192 * SECTOR}", "nodev", "nosuid", "noexec"} < set(options)


def test_a_machine_for_arm64_needs_no_emulator_on_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, entry: Path
) -> None:
    programs(tmp_path, monkeypatch, {}, loader="BOOTAA64.EFI")
    make.make(image, entry, tmp_path / "ca.pem", emulator=tmp_path / "never looked at")
    assert (entry / "architecture").read_text() == "aarch64"
    assert "qemu-aarch64" not in (tmp_path / "over").read_text()


def test_a_root_file_system_without_a_kernel_is_the_image_s_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, entry: Path
) -> None:
    lacks = json.dumps(["/usr/bin/cloud-init", "/boot/vmlinuz-*"])
    programs(tmp_path, monkeypatch, {"setpriv": _contained(f"echo '{lacks}' >lacking.json")})
    with raises("image-not-bootable", match="no /usr/bin/cloud-init, /boot/vmlinuz-") as caught:
        make.make(image, entry, tmp_path / "ca.pem")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "failing",
    [
        {"qemu-img": "echo 'error while writing: No space left on device' >&2; exit 1"},
        {"setpriv": _contained('echo "the image\'s root file system: No space left on device" >&2; exit 1')},
    ],
)
def test_a_full_disk_is_told_whichever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, image: Path, entry: Path, failing: dict[str, str]
) -> None:
    programs(tmp_path, monkeypatch, failing)
    with raises("disk-failed", match="No space left on device"):
        make.make(image, entry, tmp_path / "ca.pem")


def test_a_hostile_image_is_opened_by_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: Path) -> None:
    programs(tmp_path, monkeypatch, {})
    (tmp_path / "image.qcow2").write_bytes(qcow2.header(backing="/dev/vda"))
    with raises("image-refused"):
        make.make(tmp_path / "image.qcow2", entry, tmp_path / "ca.pem")
    assert arguments(tmp_path, "qemu-img") == []
