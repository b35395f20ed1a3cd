"""The data volume: found by what it is, formatted only when blank and asked for, otherwise left alone."""

from __future__ import annotations

import errno
import io
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.programs import arguments, on_path
from zmanim_host.cli import main
from zmanim_host.host import Clock, ErrorNotes, HostError
from zmanim_host.storage import volume
from zmanim_host.storage.volume import (
    MIB,
    Choice,
    Device,
    choose,
    find_content,
    in_use,
    make_file_system,
    sample_offsets,
)

ONE, TWO = Path("/dev/nvme1n1"), Path("/dev/nvme2n1")
BLANK = Choice(ONE, blank=True)
OURS = {"LABEL": "zmanim-data", "TYPE": "xfs", "UUID": "1"}


def test_the_labelled_volume_is_taken_wherever_it_is_attached() -> None:
    assert choose([Device(ONE, {}), Device(TWO, OURS)], attached=ONE) == Choice(TWO, blank=False)


def test_without_a_labelled_one_the_volume_at_sdf_is_a_candidate() -> None:
    assert choose([Device(ONE, {}), Device(TWO, {})], attached=TWO) == Choice(TWO, blank=True)


def test_no_volume_is_nothing_yet() -> None:
    assert choose([], attached=None) is None
    assert choose([Device(ONE, {})], attached=None) is None


def test_two_labelled_volumes_are_never_chosen_between() -> None:
    with pytest.raises(HostError, match=r"nvme1n1.*nvme2n1"):
        choose([Device(ONE, OURS), Device(TWO, OURS)], attached=ONE)


@pytest.mark.incident("the data volume was once lost by hand")
@pytest.mark.parametrize(
    "tags",
    [
        {"TYPE": "ext4"},
        {"TYPE": "xfs", "LABEL": "other"},
        {"TYPE": "crypto_LUKS"},
        {"TYPE": "LVM2_member"},
        {"PTTYPE": "gpt"},
    ],
)
def test_a_volume_that_holds_something_else_is_left_untouched_and_said(tags: dict[str, str]) -> None:
    with pytest.raises(HostError, match="left untouched") as raised:
        choose([Device(ONE, tags)], attached=ONE)
    assert all(value in str(raised.value) for value in tags.values())


def test_our_label_on_another_file_system_is_refused() -> None:
    with pytest.raises(HostError, match="ext4"):
        choose([Device(ONE, {"LABEL": "zmanim-data", "TYPE": "ext4"})], attached=None)


def sparse(path: Path, size: int) -> Path:
    with path.open("wb") as file:
        file.truncate(size)
    return path


def test_a_new_volume_is_blank(tmp_path: Path) -> None:
    assert find_content(sparse(tmp_path / "disk", 200 * MIB)) is None


@pytest.mark.parametrize("offset", [0, 64 * 512, 15 * MIB, 200 * MIB - 1])
def test_junk_that_no_tool_knows_is_found(tmp_path: Path, offset: int) -> None:
    disk = sparse(tmp_path / "disk", 200 * MIB)
    with disk.open("r+b") as file:
        file.seek(offset)
        file.write(b"\x01")
    assert find_content(disk) == offset // MIB * MIB


def test_what_can_not_be_read_is_not_blank(tmp_path: Path) -> None:
    with pytest.raises(HostError, match="left untouched"):
        find_content(tmp_path / "gone")


@pytest.fixture
def mkfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An mkfs.xfs that only writes down how it is called."""
    return on_path(tmp_path / "programs", monkeypatch, {"mkfs.xfs": ""})


class Disk(io.RawIOBase):
    """A device of 40 MiB of zeros whose reads from `limit` on are an error, or end early."""

    def __init__(self, limit: int, error: int | None) -> None:
        self._at, self._limit, self._error = 0, limit, error

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = 40 * MIB if whence == os.SEEK_END else offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        if self._at + size > self._limit and self._error:
            raise OSError(self._error, os.strerror(self._error))
        return bytes(max(0, min(size, self._limit - self._at)))


@pytest.mark.fault(
    6,
    injected="a device whose reads fail, or end early, at four places",
    must="mkfs.xfs is not called, and the reason is said",
)
@pytest.mark.parametrize("limit", [0, 512, 20 * MIB + 5, 40 * MIB - 1])
@pytest.mark.parametrize(("error", "reason"), [(errno.EIO, "Input/output error"), (None, "ends early")])
def test_a_device_that_fails_or_ends_while_it_is_read_is_not_blank(
    limit: int, error: int | None, reason: str, mkfs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "open", lambda path, mode: Disk(limit, error))
    with pytest.raises(HostError, match=reason) as raised:
        make_file_system(BLANK, "new")
    monkeypatch.undo()
    assert arguments(mkfs, "mkfs.xfs") == []
    assert "left untouched" in str(raised.value)


@given(st.integers(min_value=1, max_value=64 * 1024 * MIB))
def test_samples_lie_inside_the_device_and_cover_both_ends(size: int) -> None:
    offsets = sample_offsets(size)
    assert all(0 <= offset < size for offset in offsets)
    assert offsets[0] == 0
    assert offsets[-1] + MIB >= size
    assert len(offsets) <= 16 + 64 + 17 + 16


@pytest.mark.parametrize("consent", [None, "", "yes", "NEW"])
def test_a_blank_volume_is_not_formatted_without_consent(tmp_path: Path, consent: str | None, mkfs: Path) -> None:
    with pytest.raises(HostError, match="zmanim:data-volume=new"):
        make_file_system(Choice(sparse(tmp_path / "disk", MIB), blank=True), consent)
    assert arguments(mkfs, "mkfs.xfs") == []


def test_consent_does_not_cover_a_volume_that_is_not_blank(tmp_path: Path, mkfs: Path) -> None:
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(MIB) + b"data")
    with pytest.raises(HostError, match=f"data at byte {MIB}"):
        make_file_system(Choice(disk, blank=True), "new")
    assert arguments(mkfs, "mkfs.xfs") == []


def test_mkfs_is_never_told_to_overwrite(tmp_path: Path, mkfs: Path) -> None:
    make_file_system(Choice(sparse(tmp_path / "disk", MIB), blank=True), "new")
    assert arguments(mkfs, "mkfs.xfs") == [["-q", "-L", "zmanim-data", str(tmp_path / "disk")]]


@pytest.mark.parametrize(
    ("devices", "reason"),
    [
        ([], "is no disk that may be a data volume (those are: none)"),
        ([Device(TWO, {})], "is no disk that may be a data volume (those are: /dev/nvme2n1)"),
        ([Device(ONE, {"TYPE": "ext4"})], "is not blank and is left untouched; it has TYPE=ext4"),
        ([Device(ONE, OURS)], "has a data volume already (/dev/nvme1n1)"),
        ([Device(ONE, {}), Device(TWO, OURS)], "has a data volume already (/dev/nvme2n1)"),
    ],
)
def test_an_operator_s_consent_covers_only_a_blank_volume_beside_no_other(devices: list[Device], reason: str) -> None:
    with pytest.raises(HostError) as raised:
        volume.check_choice(ONE, devices)
    assert reason in str(raised.value)


def test_an_operator_s_command_runs_nothing_on_what_is_no_data_volume(
    tmp_path: Path, mkfs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # Whatever this host has: a file is none of its disks.
    assert main(["format-data-volume", str(sparse(tmp_path / "disk", MIB))], notes=ErrorNotes(tmp_path)) == 1
    assert "is no disk that may be a data volume" in capsys.readouterr().err
    assert arguments(mkfs, "mkfs.xfs") == []


@pytest.mark.parametrize("content", [b"", b"data"])
def test_an_operator_s_consent_looks_at_the_bytes_too(tmp_path: Path, content: bytes, mkfs: Path) -> None:
    disk = sparse(tmp_path / "disk", 2 * MIB)
    disk.write_bytes(bytes(MIB) + content)
    if content:
        with pytest.raises(HostError, match="left untouched"):
            volume.format_volume(disk, [Device(disk, {})])
    else:
        volume.format_volume(disk, [Device(disk, {})])
    assert bool(arguments(mkfs, "mkfs.xfs")) is not bool(content)


def test_partitions_and_holders_are_in_the_way(tmp_path: Path) -> None:
    (tmp_path / "nvme1n1/holders").mkdir(parents=True)
    assert in_use(ONE, tmp_path) is None
    (tmp_path / "nvme1n1/holders/dm-0").mkdir()
    (tmp_path / "nvme1n1/nvme1n1p1").mkdir()
    (tmp_path / "nvme1n1/nvme1n1p1/partition").write_text("1\n")
    assert in_use(ONE, tmp_path) == "nvme1n1p1, dm-0"


def test_a_volume_that_comes_late_is_waited_for() -> None:
    seen = iter([[], [Device(ONE, {})], [Device(ONE, OURS)]])
    assert volume.find(lambda: next(seen), Clock(sleep=lambda _: None)).device == ONE


def test_a_volume_that_never_comes_ends_the_wait() -> None:
    times = iter(range(1000))
    with pytest.raises(HostError, match="no data volume within 90 s"):
        volume.find(list, Clock(lambda: next(times), lambda _: None))


@pytest.mark.parametrize(
    ("serial", "link", "expected"),
    [
        ("vol0a1b2c3d4e5f60718 \n", "", "vol-0a1b2c3d4e5f60718"),
        ("", "nvme-Amazon_Elastic_Block_Store_vol0a1b2c3d4e5f60718", "vol-0a1b2c3d4e5f60718"),
        ("", "nvme-Amazon_Elastic_Block_Store_vol0a1b2c3d4e5f60718_1", "vol-0a1b2c3d4e5f60718"),
        ("vol0a1b2c3d4e5f60718", "nvme-Amazon_Elastic_Block_Store_vol0a1b2c3d4e5f60718", "vol-0a1b2c3d4e5f60718"),
        ("S4EWNX0R", "nvme-Samsung_S4EWNX0R", ""),
        # Two names, and nobody knows which is true.
        ("vol00000001", "nvme-Amazon_Elastic_Block_Store_vol00000002", ""),
        ("", "", ""),
    ],
)
def test_which_ebs_volume_a_device_is_says_its_serial(tmp_path: Path, serial: str, link: str, expected: str) -> None:
    device, sysfs, links = tmp_path / "nvme1n1", tmp_path / "sys", tmp_path / "by-id"
    device.touch()
    links.mkdir()
    (links / "nvme-Amazon_Elastic_Block_Store_vol0ffffffff").symlink_to(tmp_path / "nvme2n1")
    if serial:
        (sysfs / "nvme1n1/device").mkdir(parents=True)
        (sysfs / "nvme1n1/device/serial").write_text(serial)
    if link:
        (links / link).symlink_to(device)
    assert volume.ebs_volume(device, sysfs, links) == expected
