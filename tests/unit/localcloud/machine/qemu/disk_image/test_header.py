"""A disk image that would have QEMU open another file of this host is refused before any program opens it."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.machine.qemu.disk_image import header
from tests.support.disks import qcow2
from tests.support.errors import raises


def check(directory: Path, content: bytes) -> int:
    path = directory / "image.qcow2"
    path.write_bytes(content)
    return header.check(path)


@pytest.mark.parametrize("version", [2, 3])
def test_a_plain_image_s_disk_has_the_size_that_it_says(tmp_path: Path, version: int) -> None:
    assert check(tmp_path, qcow2.header(version=version, size=25 << 30)) == 25 << 30


def test_compressed_clusters_and_longer_entries_do_no_harm(tmp_path: Path) -> None:
    assert check(tmp_path, qcow2.header(features=1 << 3 | 1 << 4)) == 1 << 30


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (qcow2.header(backing="/etc/shadow"), "backing file"),
        (qcow2.header(version=2, backing="json:{}"), "backing file"),
        (qcow2.header(features=1 << 2), "external data file"),
        # QEMU looks at the bit only; one day it may not.
        (qcow2.header(extensions=[(0x6803F857, b"names"), (0x44415441, b"/dev/vda")]), "external data file"),
        (qcow2.header(encryption=2), "encryption"),
        (qcow2.header(features=1 << 1), "corrupt"),
        (qcow2.header(features=1), "not closed"),
        (qcow2.header(features=1 << 17), "unknown"),
        (qcow2.header(size=0), "disk of 0 bytes"),
        (qcow2.header(size=1 << 50), "disk of"),
    ],
)
def test_what_an_image_of_amazon_s_never_has_is_refused(tmp_path: Path, content: bytes, found: str) -> None:
    with raises("image-refused") as caught:
        check(tmp_path, content)
    assert found in caught.value.found
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    "content", [b"", b"QFI", b"<html>not found</html>" * 9, qcow2.header(version=1), qcow2.header()[:80]]
)
def test_what_is_no_qcow2_is_said(tmp_path: Path, content: bytes) -> None:
    with raises("image-unreadable") as caught:
        check(tmp_path, content)
    assert caught.value.exit_code == 2


def test_a_file_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert not header.is_qcow2(tmp_path / "none")
    with raises("image-unreadable", match="No such file"):
        header.check(tmp_path / "none")


def test_a_file_is_known_by_what_it_begins_with(tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(qcow2.header())
    (tmp_path / "b.qcow2").write_bytes(b"a tar archive")
    assert header.is_qcow2(tmp_path / "a.tar")
    assert not header.is_qcow2(tmp_path / "b.qcow2")
