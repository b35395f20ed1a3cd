"""A disk image becomes a base by its checksum only, and whatever is wrong with it leaves nothing behind."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import platform
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from urllib.error import URLError

import pytest
from invoke.program import Program

import tasks
from localcloud.machine.qemu import acceleration, firmware
from localcloud.machine.qemu.disk_image import layout, make
from localcloud.settings import NSPAWN, QEMU
from support.errors import Error
from tests.support import ROOT
from tests.support.disks import qcow2
from tests.support.disks.partition_table import EFI, LINUX, SECTOR, Part
from tests.support.errors import raises
from tests.support.programs import on_path
from zmanim_ami.rehearsal import cloud, disk_image
from zmanim_ami.rehearsal.disk_image import DiskFile, fetch
from zmanim_ami.rehearsal.settings import MachineSettings

URL = "https://cdn.example.org/al2023-kvm-x86_64.xfs.gpt.qcow2"
SIZE = 32 << 20


@pytest.fixture
def image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk image that could boot, and the programs that look into it."""
    on_path(tmp_path / "programs", monkeypatch, {"qemu-img": qcow2.QEMU_IMG, "mdir": "echo ::/EFI/BOOT/BOOTX64.EFI"})
    monkeypatch.setattr(layout, "copy", qcow2.copy)
    root = (Part(1, LINUX, 8192, 16383), b"XFSB" + bytes(SECTOR))
    return qcow2.image(tmp_path / "image.qcow2", [root, (Part(128, EFI, 2048, 4095), b"")], SIZE)


class Answer(io.BytesIO):
    """What a server sends: so many bytes at a time, from an address that may be another one."""

    def __init__(self, content: bytes, url: str = URL, length: int | None = None) -> None:
        super().__init__(content)
        self.url = url
        self.headers = {"Content-Length": str(len(content) if length is None else length)}


class Site:
    """A site that has one file; it counts how often it is asked."""

    def __init__(self, answer: Callable[[], Answer]) -> None:
        self._answer = answer
        self.asked: list[str] = []

    def opened(self, url: str, _seconds: float) -> Any:
        self.asked.append(url)
        return self._answer()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def left(directory: Path) -> list[str]:
    """Return what of an image is there that was not meant to be."""
    return [str(path) for path in directory.rglob("*") if path.is_file() and not path.name.endswith(".lock")]


def test_a_file_is_taken_by_its_checksum_and_told_what_it_is(tmp_path: Path, image: Path) -> None:
    given = sha256(image).upper()
    found = fetch(str(image), given, tmp_path / "build/base.qcow2", tmp_path / "cache")
    assert found == DiskFile(str(tmp_path / "build/base.qcow2"), given.lower(), str(image), "x86_64", 0.0)
    assert (tmp_path / "build/base.qcow2").read_bytes() == image.read_bytes()
    assert left(tmp_path / "cache") == []


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path, image: Path) -> None:
    site = Site(lambda: Answer(image.read_bytes()))
    for _ in range(2):
        found = fetch(URL, sha256(image), tmp_path / "base.qcow2", tmp_path / "cache", opened=site.opened)
    assert (found.source, site.asked) == (URL, [URL])
    assert (tmp_path / "base.qcow2").read_bytes() == image.read_bytes()


@pytest.mark.parametrize("given", ["", "latest", "0" * 63, "0" * 65, "g" * 64])
def test_without_a_checksum_nothing_is_looked_at(tmp_path: Path, image: Path, given: str) -> None:
    site = Site(lambda: Answer(b""))
    for source in (str(image), URL):
        with raises("no-checksum") as caught:
            fetch(source, given, tmp_path / "base.qcow2", tmp_path / "cache", opened=site.opened)
        assert caught.value.exit_code == 2
    assert site.asked == []


def test_a_file_that_is_another_one_is_not_taken(tmp_path: Path, image: Path) -> None:
    before = tmp_path / "build/base.qcow2"
    before.parent.mkdir()
    before.write_text("of the last time")
    with raises("checksum-differs", match=sha256(image)) as caught:
        fetch(str(image), "0" * 64, before, tmp_path / "cache")
    assert caught.value.exit_code == 2
    assert before.read_text() == "of the last time"
    assert left(before.parent) == [str(before)]


@pytest.mark.parametrize(
    ("answer", "code", "exit_code"),
    [
        (Answer(b"<html>"), "checksum-differs", 2),
        (Answer(b"", length=disk_image.MOST_BYTES + 1), "image-too-large", 2),
        (Answer(b"", url="http://cdn.example.org/image"), "image-not-downloaded", 1),
        (URLError("no way there"), "image-not-downloaded", 1),
        (TimeoutError("timed out"), "image-not-downloaded", 1),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "image-not-downloaded", 1),
        (OSError(errno.ENOSPC, "No space left on device"), "disk-too-small", 3),
    ],
)
@pytest.mark.usefixtures("image")
def test_what_goes_wrong_on_the_way_leaves_nothing(
    tmp_path: Path, answer: Answer | OSError, code: str, exit_code: int
) -> None:
    def opened(_url: str, _seconds: float) -> Any:
        if isinstance(answer, OSError):
            raise answer
        return answer

    with raises(code) as caught:
        fetch(URL, "0" * 64, tmp_path / "build/base.qcow2", tmp_path / "cache", opened=opened)
    assert caught.value.exit_code == exit_code
    assert left(tmp_path / "build") == left(tmp_path / "cache") == []


def test_a_file_that_never_ends_is_cut_off(tmp_path: Path, image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server need not say how long its answer is, nor keep to what it says."""
    monkeypatch.setattr(disk_image, "MOST_BYTES", 3 << 20)
    site = Site(lambda: Answer(image.read_bytes(), length=1))
    with raises("image-too-large") as caught:
        fetch(URL, sha256(image), tmp_path / "base.qcow2", tmp_path / "cache", opened=site.opened)
    assert caught.value.found.startswith(str(4 << 20))
    assert left(tmp_path / "cache") == []


@pytest.mark.parametrize("url", ["http://example.org/i.qcow2", "ftp://example.org/i.qcow2", "file:///etc/shadow"])
@pytest.mark.usefixtures("image")
def test_another_way_than_https_is_refused(tmp_path: Path, url: str) -> None:
    with raises("not-https") as caught:
        fetch(url, "0" * 64, tmp_path / "base.qcow2", tmp_path / "cache")
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"a text, whose checksum is right", "image-unreadable"),
        (qcow2.header(backing="/etc/shadow"), "image-refused"),
        (qcow2.header(size=SIZE) + bytes(qcow2.DATA + SIZE), "image-not-bootable"),
    ],
)
@pytest.mark.usefixtures("image")
def test_the_right_file_may_be_the_wrong_thing(tmp_path: Path, content: bytes, code: str) -> None:
    (tmp_path / "given").write_bytes(content)
    with raises(code) as caught:
        fetch(str(tmp_path / "given"), sha256(tmp_path / "given"), tmp_path / "build/base.qcow2", tmp_path / "cache")
    assert caught.value.exit_code == 2
    assert left(tmp_path / "build") == []


@pytest.mark.usefixtures("image")
def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    with raises("image-unreadable", match="there is no file"):
        fetch(str(tmp_path / "none"), "0" * 64, tmp_path / "base.qcow2", tmp_path / "cache")


def test_a_host_without_qemu_is_told_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(firmware, "check_programs", _lacking)
    site = Site(lambda: Answer(b""))
    with raises("programs-missing"):
        fetch(URL, "0" * 64, tmp_path / "base.qcow2", tmp_path / "cache", opened=site.opened)
    assert site.asked == []


def _lacking(programs: dict[str, str]) -> None:
    raise Error(", ".join(programs), code="programs-missing")


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The images of which a base disk was made (that takes root, and the programs)."""
    images: list[Path] = []

    def stand_in(image: Path, entry: Path, _certificate: Path, **_options: object) -> None:
        images.append(image)
        (entry / firmware.ARCHITECTURE).write_text("x86_64")

    monkeypatch.setattr(make, "make", stand_in)
    monkeypatch.setattr(firmware, "check", lambda _architecture: None)
    return images


def test_one_base_is_made_of_each_image_and_authority(tmp_path: Path, image: Path, made: list[Path]) -> None:
    certificate = tmp_path / "ca.pem"
    certificate.write_text("one")
    first, again = (disk_image.unpack(image, tmp_path / "cache", certificate) for _ in range(2))
    assert (first, first.disk, first.sha256) == (again, first.root, sha256(image))
    certificate.write_text("another")
    assert disk_image.unpack(image, tmp_path / "cache", certificate).disk != first.disk
    assert made == [image, image]


@pytest.mark.usefixtures("made")
def test_a_cloud_of_an_image_has_its_disk_and_no_stand_in_with_a_way_out(tmp_path: Path, image: Path) -> None:
    tools: list[Path] = []
    prepared = cloud.prepare(
        _clone(tmp_path),
        tmp_path / "cache",
        image,
        egress=True,
        machines=QEMU,
        build_tools=lambda cache: cast(Any, tools.append(cache)),
    )
    assert tools == [tmp_path / "cache"]
    assert prepared.base is not None
    settings = cloud.settings(
        "own", cloud.with_machines(prepared, tmp_path / "cache", MachineSettings(QEMU, "tcg")), tmp_path
    )
    assert (settings.machines, settings.accelerator, settings.egress) == (QEMU, "tcg", True)
    assert settings.images[0].disk == prepared.base.disk
    assert settings.images[0].description == "image.qcow2"


def _clone(directory: Path) -> Path:
    versions = directory / "clone/infrastructure/packer/versions.json"
    versions.parent.mkdir(parents=True)
    versions.write_text((ROOT / "infrastructure/packer/versions.json").read_text())
    return directory / "clone"


def test_machines_on_the_host_s_kernel_can_t_start_from_one(tmp_path: Path, image: Path) -> None:
    with raises("base-needs-qemu", match="--machines qemu") as caught:
        cloud.prepare(_clone(tmp_path), tmp_path / "cache", image, machines=NSPAWN)
    assert caught.value.exit_code == 2


def test_another_processor_s_machine_is_emulated_and_kvm_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = next(each for each in firmware.FIRMWARE if each != platform.machine())
    (tmp_path / firmware.ARCHITECTURE).write_text(other)
    assert disk_image.accelerator_of(tmp_path, "auto", tmp_path) == "tcg"
    with raises("kvm-fails", match=other) as caught:
        disk_image.accelerator_of(tmp_path, "kvm", tmp_path)
    assert caught.value.exit_code == 3
    # KVM is believed when it has booted the image's own kernel.
    monkeypatch.setattr(acceleration, "choose", lambda way, kernel, _cache: f"{way} by {kernel.name}")
    (tmp_path / firmware.ARCHITECTURE).write_text(platform.machine())
    assert disk_image.accelerator_of(tmp_path, "kvm", tmp_path) == "kvm by kernel"


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--kvm", URL, "--sha256", "0" * 64], (URL, "0" * 64, Path("build/base.qcow2"))),
        (["--kvm", "i.qcow2", "--file", "b.qcow2"], ("i.qcow2", "", Path("b.qcow2"))),
    ],
)
def test_the_task_hands_source_and_checksum_on(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    given: list[str],
    meant: tuple[str, str, Path],
) -> None:
    asked: list[tuple[str, str, Path]] = []

    def stand_in(source: str, checksum: str, file: Path, _cache: Path) -> DiskFile:
        asked.append((source, checksum, file))
        return DiskFile(str(file), checksum, source, "x86_64", 25.0)

    monkeypatch.setattr(disk_image, "fetch", stand_in)
    Program(namespace=tasks.namespace).run(["inv", "base-image", *given, "--json"], exit=False)
    assert asked == [meant]
    assert json.loads(capsys.readouterr().out)["architecture"] == "x86_64"
