"""What mkfs.xfs left unfinished is told apart from every file system that may hold something."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.programs import arguments, on_path
from zmanim_host.host import HostError
from zmanim_host.storage import volume, xfs
from zmanim_host.storage.volume import LABEL, Choice, Device
from zmanim_host.storage.xfs import MIB

# As mkfs.xfs -L zmanim-data writes it first of all on 1 GiB.
FIRST_WRITTEN = bytes.fromhex(
    "5846534200001000000000000004000000000000000000000000000000000000606072368b814537b039489c6961ecca00000000"
    "00020006ffffffffffffffffffffffffffffffffffffffffffffffff0000000100010000000000040000000000004000b4a50200"
    "020000087a6d616e696d2d64617461000c0909031000011900000000000000000000000000000000000000000003bfe800000000"
    "00000000000000000000000000000000000000000000000000000008000000000000000000000000000000010000018a0000018a"
    "000000000000000d0000000b00000000a805b1c700000004"
).ljust(512, b"\0")
SIZE = 1 << 30
OURS = {"LABEL": LABEL, "TYPE": "xfs"}
ONE, TWO = Path("/dev/nvme1n1"), Path("/dev/nvme2n1")


def sector(in_progress: int = 1, inodes: int = 0, free: int = 0, last_write: int = 0) -> bytes:
    """Return such a superblock with other values and the checksum that belongs to them."""
    changed = bytearray(FIRST_WRITTEN)
    changed[126] = in_progress
    struct.pack_into(">QQ", changed, 128, inodes, free)
    struct.pack_into(">Q", changed, 240, last_write)
    struct.pack_into("<I", changed, 224, xfs._checksum(bytes(changed)))
    return bytes(changed)


def disk(path: Path, first: bytes, **others: int) -> Path:
    """Make a disk of 1 GiB with that first sector, and a byte at each other offset."""
    with path.open("wb") as file:
        file.truncate(SIZE)
        file.write(first)
        for offset in others.values():
            file.seek(offset)
            file.write(b"\1")
    return path


@pytest.fixture
def mkfs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An mkfs.xfs that only writes down how it is called."""
    return on_path(tmp_path / "programs", monkeypatch, {"mkfs.xfs": ""})


def unfinished(path: Path) -> Choice:
    return Choice(path, blank=False, unfinished=True)


def test_a_real_superblock_is_read_and_its_checksum_is_right() -> None:
    read = xfs.parse(FIRST_WRITTEN)
    assert read == xfs.Superblock(
        intact=True,
        version=5,
        in_progress=True,
        used_inodes=0,
        last_write=0,
        groups=4,
        group_bytes=1 << 28,
        log_start=536895488,
    )


@pytest.mark.parametrize("first", [b"", bytes(512), b"XFSB", b"XFSA".ljust(512, b"\0")])
def test_what_is_no_superblock_is_none(first: bytes) -> None:
    assert xfs.parse(first) is None


@given(st.binary(min_size=512, max_size=512))
def test_no_bytes_make_it_stumble(junk: bytes) -> None:
    read = xfs.parse(b"XFSB" + junk[4:])
    assert read is not None
    assert xfs.doubt(read, SIZE)


@given(inodes=st.integers(0, 2**64 - 1), free=st.integers(0, 2**64 - 1), last_write=st.integers(0, 2**64 - 1))
def test_a_finished_file_system_is_never_taken_for_an_unfinished_one(inodes: int, free: int, last_write: int) -> None:
    read = xfs.parse(sector(0, inodes, free, last_write))
    assert read is not None
    assert xfs.doubt(read, SIZE) == "it is finished"


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_a_mark_on_what_has_files_or_was_mounted_is_doubted(inodes: int, free: int, last_write: int) -> None:
    read = xfs.parse(sector(1, inodes, free, last_write))
    assert read is not None
    assert (xfs.doubt(read, SIZE) is None) is (0 <= inodes - free <= 3 and not last_write)


@given(st.integers(0, 511).filter(lambda at: not 224 <= at < 228), st.integers(1, 255))
def test_a_flipped_bit_is_not_taken_for_the_mark(at: int, flipped: int) -> None:
    for whole in (sector(0, 64, 61), sector(1)):
        changed = bytearray(whole)
        changed[at] ^= flipped
        read = xfs.parse(bytes(changed))
        assert read is None or xfs.doubt(read, SIZE)


def test_one_that_was_made_for_a_larger_device_is_doubted() -> None:
    read = xfs.parse(sector())
    assert read is not None
    assert xfs.doubt(read, SIZE // 2) == "it was made for another size"


def test_an_unfinished_volume_is_made_anew_when_the_launch_consents(tmp_path: Path, mkfs: Path) -> None:
    path = disk(tmp_path / "disk", sector(1, 64, 61))
    volume.make_file_system(unfinished(path), "new")
    assert arguments(mkfs, "mkfs.xfs") == [["-q", "-f", "-L", LABEL, str(path)]]


@pytest.mark.parametrize("consent", [None, "", "yes", "NEW"])
def test_without_consent_it_is_left_untouched_and_what_to_do_is_said(
    tmp_path: Path, mkfs: Path, consent: str | None
) -> None:
    path = disk(tmp_path / "disk", sector())
    with pytest.raises(HostError, match="nothing was ever kept on it") as raised:
        volume.make_file_system(unfinished(path), consent)
    assert "zmanim:data-volume=new" in str(raised.value)
    assert "format-data-volume /dev/sdf" in str(raised.value)
    assert arguments(mkfs, "mkfs.xfs") == []


@pytest.mark.incident("a boot script formatted what it did not know")
@pytest.mark.parametrize(
    ("first", "data", "reason"),
    [
        (sector(0), {}, "it is finished"),
        (sector(1, last_write=1 << 32), {}, "it was mounted once"),
        (sector(1, 64, 60), {}, "it has files"),
        (bytes(512), {}, "it has no superblock"),
        (sector(1)[:-1] + b"\1", {}, "its superblock's checksum is wrong"),
        (sector(1), {"a file": 5 * MIB}, f"data at byte {5 * MIB}"),
        (sector(1), {"a file": SIZE - 1}, f"data at byte {SIZE - MIB}"),
    ],
)
def test_consent_does_not_cover_what_only_looks_unfinished(
    tmp_path: Path, mkfs: Path, first: bytes, data: dict[str, int], reason: str
) -> None:
    with pytest.raises(HostError, match="left untouched") as raised:
        volume.make_file_system(unfinished(disk(tmp_path / "disk", first, **data)), "new")
    assert reason in str(raised.value)
    assert arguments(mkfs, "mkfs.xfs") == []


def test_what_mkfs_writes_itself_is_no_data(tmp_path: Path, mkfs: Path) -> None:
    own = {"root": 65536, "second group": (1 << 28) + 512, "log": 536895488, "last group": 3 << 28}
    volume.make_file_system(unfinished(disk(tmp_path / "disk", sector(1, 64, 61), **own)), "new")
    assert len(arguments(mkfs, "mkfs.xfs")) == 1


def test_what_can_not_be_read_is_not_unfinished(tmp_path: Path, mkfs: Path) -> None:
    with pytest.raises(HostError, match="can't be read and is left untouched"):
        volume.make_file_system(unfinished(tmp_path / "gone"), "new")
    assert arguments(mkfs, "mkfs.xfs") == []


def test_a_device_in_use_is_not_made_anew(tmp_path: Path, mkfs: Path) -> None:
    (tmp_path / "sys/disk/holders/dm-0").mkdir(parents=True)
    with pytest.raises(HostError, match="in use by dm-0"):
        volume.format_device(unfinished(disk(tmp_path / "disk", sector())), "a test says", tmp_path / "sys")
    assert arguments(mkfs, "mkfs.xfs") == []


@pytest.mark.parametrize(("first", "marked"), [(sector(1), True), (sector(0), False)])
def test_a_device_s_mark_is_seen(tmp_path: Path, first: bytes, marked: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    result = "".join(f"echo {name}={value}\n" for name, value in OURS.items())
    on_path(tmp_path / "programs", monkeypatch, {"blkid": result})
    seen = volume.examine(disk(tmp_path / "disk", first))
    assert seen == Device(tmp_path / "disk", OURS, marked)
    assert volume.choose([seen], attached=None) == Choice(tmp_path / "disk", blank=False, unfinished=marked)


def test_an_unfinished_volume_beside_a_labelled_one_is_still_one_too_many() -> None:
    with pytest.raises(HostError, match="more than one volume"):
        volume.choose([Device(ONE, OURS), Device(TWO, OURS, unfinished=True)], attached=ONE)


def test_a_foreign_unfinished_volume_is_left_untouched() -> None:
    with pytest.raises(HostError, match="left untouched"):
        volume.choose([Device(ONE, {"TYPE": "xfs"}, unfinished=True)], attached=ONE)


def test_an_operator_may_have_an_unfinished_volume_made_anew_but_not_beside_another() -> None:
    unfinished = Device(ONE, OURS, unfinished=True)
    assert volume.check_choice(ONE, [unfinished]) == Choice(ONE, blank=False, unfinished=True)
    with pytest.raises(HostError, match=r"has a data volume already \(/dev/nvme2n1\)"):
        volume.check_choice(ONE, [unfinished, Device(TWO, OURS)])
    with pytest.raises(HostError, match="left untouched"):
        volume.check_choice(ONE, [Device(ONE, {"TYPE": "xfs"}, unfinished=True)])
