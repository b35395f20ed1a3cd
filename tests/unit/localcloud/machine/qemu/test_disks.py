"""Which disk an instance, an image and a base stand on, by a qemu-img that only notes what it is given."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from localcloud.machine.qemu import firmware
from localcloud.machine.qemu.disks import Disks, longest
from tests.support.errors import raises
from tests.support.programs import arguments, on_path


@pytest.fixture
def disks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disks:
    """Disks over a base that is there already (mounting one takes root)."""
    # As qemu-img makes it: its last argument is the file.
    on_path(tmp_path, monkeypatch, {"qemu-img": 'for file; do :; done; echo disk >"$file"'})
    base = tmp_path / "layers" / "base0"
    base.mkdir(parents=True)
    (base / "disk.raw").touch()
    (base / "kernel").touch()
    return Disks(tmp_path, images={"ami-base": ("base0",)})


def backing(directory: Path) -> list[tuple[str, str]]:
    """Return the backing file of each disk that was made, with its format."""
    calls = arguments(directory, "qemu-img")
    return [(words[words.index("-b") + 1], words[words.index("-F") + 1]) for words in calls]


def test_an_instance_boots_an_empty_disk_on_its_image_s_with_the_base_s_kernel(disks: Disks) -> None:
    disks.create("i-1", "ami-base")
    boot = disks.mount("i-1")
    layers = disks.directory / "layers"
    assert backing(disks.directory) == [(str(layers / "base0/disk.raw"), "raw")]
    assert (boot / "disk.qcow2").read_text() == "disk\n"
    assert (boot / "kernel").resolve() == layers / "base0" / "kernel"


def test_whose_boot_loader_a_base_has_is_known_where_an_instance_boots(disks: Disks) -> None:
    disks.create("i-1", "ami-base")
    assert firmware.of(disks.mount("i-1")) is None
    (disks.directory / "layers/base0/architecture").write_text("x86_64")
    disks.rotate("i-1", "ami-1")
    disks.create("i-2", "ami-1")
    assert firmware.of(disks.mount("i-1")) == firmware.of(disks.mount("i-2")) == firmware.FIRMWARE["x86_64"]


def test_a_disk_image_is_stood_on_in_its_own_format(disks: Disks) -> None:
    base = disks.directory / "layers/base0"
    (base / "disk.raw").rename(base / "disk.qcow2")
    disks.create("i-1", "ami-base")
    assert backing(disks.directory) == [(str(base / "disk.qcow2"), "qcow2")]


def test_an_image_takes_the_instance_s_disk_and_leaves_it_an_empty_one_on_top(disks: Disks) -> None:
    disks.create("i-1", "ami-base")
    disks.rotate("i-1", "ami-1")
    disks.create("i-2", "ami-1")
    layer = disks.directory / "layers" / "ami-1" / "disk.qcow2"
    assert layer.is_file()
    assert backing(disks.directory)[1:] == [(str(layer), "qcow2"), (str(layer), "qcow2")]
    assert disks.mount("i-1") / "kernel" != disks.mount("i-2") / "kernel"
    assert (disks.mount("i-2") / "kernel").resolve().name == "kernel"


def test_a_disk_goes_when_neither_an_image_nor_an_instance_stands_on_it(disks: Disks) -> None:
    disks.create("i-1", "ami-base")
    disks.rotate("i-1", "ami-1")
    disks.forget_image("ami-1")
    assert (disks.directory / "layers" / "ami-1").exists()
    disks.forget_instance("i-1")
    assert [path.name for path in (disks.directory / "layers").iterdir()] == ["base0"]


def test_no_image_is_made_of_a_running_instance(disks: Disks) -> None:
    """What its kernel has not written yet is on no disk: such an image would be one of a power cut, unsaid."""
    disks.create("i-1", "ami-base")
    with raises("layer-failed", match="kernel of its own"):
        disks.copy("i-1", "ami-1")
    assert "ami-1" not in disks.images


def test_a_full_disk_is_told_in_qemu_img_s_words(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(disks.directory / "full", monkeypatch, {"qemu-img": "echo No space left on device >&2; exit 1"})
    with raises("layer-failed", match="No space left on device"):
        disks.create("i-1", "ami-base")


def test_the_file_of_a_disk_may_become_longer_than_the_disk(tmp_path: Path) -> None:
    """Its own tables lie in it, too, and QEMU can't make what stands behind NBD longer."""
    (tmp_path / "disk.qcow2").write_bytes(struct.pack(">4sIQIIQ", b"QFI\xfb", 3, 0, 0, 16, 8 << 30) + bytes(72))
    assert longest(tmp_path / "disk.qcow2") == 16 << 30
