"""What a disk boots by is found without mounting any of it, and a disk that could not boot is told what it lacks."""

from __future__ import annotations

import json
import platform
import struct
from pathlib import Path

import pytest

from localcloud.machine.qemu.disk_image import layout
from localcloud.machine.qemu.disk_image.layout import Layout
from tests.support.disks import qcow2
from tests.support.disks.partition_table import BIOS, EFI, LINUX, ROOT, SECTOR, Part
from tests.support.errors import raises
from tests.support.programs import arguments, on_path

SIZE = 32 << 20
ESP = (Part(128, EFI, 2048, 4095), b"a FAT file system")
BOOT = (Part(127, BIOS, 4096, 4607), b"")


def xfs(label: str = "") -> bytes:
    return b"XFSB" + bytes(104) + label.encode().ljust(12, b"\0") + bytes(SECTOR)


def ext4(label: str = "") -> bytes:
    return bytes(1080) + b"\x53\xef" + bytes(62) + label.encode().ljust(16, b"\0") + bytes(SECTOR)


def root(content: bytes, number: int = 1, kind: object = LINUX, first: int = 8192) -> tuple[Part, bytes]:
    return Part(number, kind, first, first + 16383), content  # type: ignore[arg-type]


@pytest.fixture
def listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file whose lines mdir answers with; none: it fails, as for a directory that is not there."""
    on_path(tmp_path, monkeypatch, {"mdir": 'cat "${HERE}/listed"'})
    monkeypatch.setattr(layout, "copy", qcow2.copy)
    path = tmp_path / "listed"
    path.write_text("::/EFI/BOOT/BOOTX64.EFI\n::/EFI/BOOT/grub.cfg\n")
    return path


def find(directory: Path, *parts: tuple[Part, bytes]) -> Layout:
    return layout.find(qcow2.image(directory / "image", parts, SIZE), SIZE)


@pytest.mark.parametrize(("content", "name"), [(xfs(), "xfs"), (ext4(), "ext4")])
@pytest.mark.usefixtures("listed")
def test_a_disk_like_amazon_s_is_seen_to_boot(tmp_path: Path, content: bytes, name: str) -> None:
    found = find(tmp_path, root(content), BOOT, ESP)
    assert (found.root.offset, found.root.size) == (8192 * SECTOR, 16384 * SECTOR)
    assert (found.file_system, found.architecture) == (name, "x86_64")
    # Of the EFI partition's own file, and whatever floppies are configured for on this host.
    (call,) = arguments(tmp_path, "mdir")
    assert call[-1] == "::/EFI/BOOT"


def test_the_boot_loader_says_which_machine_it_is_for(tmp_path: Path, listed: Path) -> None:
    listed.write_text("::/EFI/BOOT/bootaa64.efi\n")
    assert find(tmp_path, root(xfs()), ESP).architecture == "aarch64"
    listed.write_text("::/EFI/BOOT/BOOTAA64.EFI\n::/EFI/BOOT/BOOTX64.EFI\n")
    assert find(tmp_path, root(xfs()), ESP).architecture == platform.machine()


@pytest.mark.parametrize(
    "others",
    [
        [root(ext4(), 2, LINUX, 40960)],
        [root(ext4("data"), 2, LINUX, 40960)],
    ],
)
@pytest.mark.parametrize(("content", "kind"), [(xfs(), ROOT), (xfs("/"), LINUX)])
@pytest.mark.usefixtures("listed")
def test_of_several_file_systems_the_root_is_the_one_that_says_so(
    tmp_path: Path, others: list[tuple[Part, bytes]], content: bytes, kind: object
) -> None:
    found = find(tmp_path, *others, root(content, 3, kind, 8192), ESP)
    assert (found.file_system, found.root.offset) == ("xfs", 8192 * SECTOR)


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ([root(xfs())], "no EFI partition"),
        ([ESP, BOOT], "0 of 2 partitions"),
        ([ESP, root(b"a swap space")], "0 of 2 partitions"),
        ([ESP, root(xfs()), root(ext4(), 2, LINUX, 40960)], "2 of 3 partitions"),
        ([ESP, root(xfs("/")), root(ext4("/"), 2, LINUX, 40960)], "2 of 3 partitions"),
    ],
)
@pytest.mark.usefixtures("listed")
def test_a_disk_that_could_not_boot_is_told_what_it_lacks(
    tmp_path: Path, parts: list[tuple[Part, bytes]], expected: str
) -> None:
    with raises("image-not-bootable") as caught:
        find(tmp_path, *parts)
    assert expected in caught.value.found
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("content", ["", "::/EFI/BOOT/fbx64.efi\n"])
def test_an_efi_partition_without_a_boot_loader_is_told(tmp_path: Path, listed: Path, content: str) -> None:
    listed.write_text(content) if content else listed.unlink()
    with raises("image-not-bootable", match=r"BOOTX64\.EFI"):
        find(tmp_path, root(xfs()), ESP)


def test_a_part_of_a_disk_is_copied_by_qemu_s_own_program_told_which_format_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left to guess, it would take a file's first bytes for a format: whoever wrote them would choose."""
    on_path(tmp_path, monkeypatch, {"qemu-img": "exit 0"})
    layout.copy(tmp_path / "a,b.qcow2", 512, 1024, tmp_path / "part")
    ((*_, source, target),) = arguments(tmp_path, "qemu-img")
    part = json.loads(source.removeprefix("json:"))
    assert (part["driver"], part["offset"], part["size"], target) == ("raw", 512, 1024, str(tmp_path / "part"))
    assert part["file"] == {"driver": "qcow2", "file": {"driver": "file", "filename": str(tmp_path / "a,b.qcow2")}}


def table(**changes: int) -> bytes:
    values = {"entries": 2, "count": 128, "length": 128, **changes}
    fields = (b"EFI PART", 0x10000, 92, 0, 0, 1, 0, 34, 0, bytes(16), values["entries"], values["count"])
    return struct.pack("<8sIIIIQQQQ16sQII", *fields, values["length"])


@pytest.mark.parametrize(
    ("header", "entry"),
    [
        (bytes(92), b""),
        (table(count=1 << 31), b""),
        (table(length=64), b""),
        (table(length=1 << 30), b""),
        (table(entries=1 << 40), b""),
        (table(), struct.pack("<16s16sQQ", EFI.bytes_le, bytes(16), 2048, 1 << 40)),
        (table(), struct.pack("<16s16sQQ", EFI.bytes_le, bytes(16), 2048, 100)),
    ],
)
def test_a_table_that_reaches_beyond_the_disk_is_none(header: bytes, entry: bytes) -> None:
    """Whoever made the image chose its numbers: none of them makes this host read or reserve what it would not."""
    disk = bytearray(1 << 20)
    disk[SECTOR : SECTOR + len(header)] = header
    disk[2 * SECTOR : 2 * SECTOR + len(entry)] = entry
    asked: list[int] = []

    def read(offset: int, length: int) -> bytes:
        asked.append(offset + length)
        return bytes(disk[offset : offset + length])

    with raises("image-not-bootable"):
        layout.partitions(read, len(disk))
    assert max(asked) <= len(disk)


def test_a_disk_of_less_than_a_table_has_none() -> None:
    with raises("image-not-bootable"):
        layout.partitions(lambda _offset, length: bytes(length), SECTOR)
