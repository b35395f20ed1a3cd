"""Volumes that are not what a machine expects. Every launch consents to formatting: that must make no difference."""

from __future__ import annotations

import os
import struct
import subprocess
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.machines.backups import expect_one_mail_of_a_boot
from tests.support.machines.image import NOT_ON_THE_ROOT_DISK, STORES, ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.promises.volumes import expect_none_of_two_candidates
from tests.support.servers import POSTGRESQL

LEFT_ALONE = "left untouched"
TREE = "cd /data && find postgres -type f -exec sha256sum {} + | sort | sha256sum"


def run(*command: str | Path) -> None:
    subprocess.run([str(each) for each in command], check=True, capture_output=True)


def write_at(path: Path, offset: int, content: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(content)


def luks(path: Path) -> None:
    uuid = b"5f6f5f5c-4b7e-4b5e-9d0b-3f3f3f3f3f3f"
    write_at(path, 0, b"LUKS\xba\xbe" + struct.pack(">H", 1) + b"aes".ljust(32, b"\0") + bytes(128) + uuid)


def lvm(path: Path) -> None:
    # The label of a physical volume in its sector 1, with the checksum of what follows it (LVM's own CRC).
    body = struct.pack("<I8s", 32, b"LVM2 001") + b"abcdefghijklmnopqrstuvwxyz012345" + struct.pack("<Q", 1 << 30)
    body = body.ljust(512 - 20, b"\0")
    crc = 0xF597A6CF
    for byte in body:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
    write_at(path, 512, b"LABELONE" + struct.pack("<QI", 1, crc) + body)


def gpt(path: Path) -> None:
    # One entry (a Linux file system), the header with its checksums, and the MBR that protects them.
    linux = bytes.fromhex("af3dc60f838472478e793d69d8477de4")
    entry = linux + bytes(range(16)) + struct.pack("<QQQ", 2048, 4095, 0) + "data".encode("utf-16-le").ljust(72, b"\0")
    entries, last = entry.ljust(128 * 128, b"\0"), (1 << 30) // 512 - 1
    fields = struct.pack("<QQQQ16sQIII", 1, last, 34, last - 33, bytes(range(16)), 2, 128, 128, zlib.crc32(entries))
    start = b"EFI PART" + struct.pack("<II", 0x10000, 92)
    header = start + struct.pack("<II", zlib.crc32(start + bytes(8) + fields), 0) + fields
    write_at(
        path, 446, bytes([0, 0, 2, 0, 0xEE, 0xFF, 0xFF, 0xFF]) + struct.pack("<II", 1, last) + bytes(48) + b"\x55\xaa"
    )
    write_at(path, 512, header)
    write_at(path, 1024, entries)


def damaged(path: Path) -> None:
    run("mkfs.ext4", "-q", path)
    write_at(path, 0, bytes(4096))


def damaged_xfs(path: Path) -> None:
    run("mkfs.xfs", "-q", "-L", "zmanim-data", path)
    write_at(path, 0, bytes(4096))


FOREIGN: dict[str, tuple[Callable[[Path], None], str]] = {
    "xfs": (lambda path: run("mkfs.xfs", "-q", path), "TYPE=xfs"),
    "ext4 with our label": (lambda path: run("mkfs.ext4", "-q", "-L", "zmanim-data", path), "holds ext4, not xfs"),
    "LUKS": (luks, "TYPE=crypto_LUKS"),
    "LVM": (lvm, "TYPE=LVM2_member"),
    "a partition table": (gpt, "PTTYPE=gpt"),
    "ext4 without its superblock": (damaged, "is not blank"),
    "our xfs without its superblock": (damaged_xfs, "is not blank"),
    "junk in sector 64": (lambda path: write_at(path, 64 * 512, b"junk"), "is not blank"),
    "junk at its end": (lambda path: write_at(path, (1 << 30) - 4096, b"junk"), "is not blank"),
}


@pytest.fixture
def volume(images: ImageLab) -> Iterator[str]:
    made = images.new_volume()
    yield made
    images.ec2.delete_volume(VolumeId=made)


@pytest.mark.fault(
    3,
    injected="a volume with XFS, ext4 under our label, LUKS, LVM or a partition table, with a launch that consents",
    must="its SHA-256 is what it was, no service starts, the ready line and one mail name what it holds",
)
@pytest.mark.fault(
    4,
    injected="an ext4, or an XFS of ours, without its superblock, with a launch that consents",
    must="its SHA-256 is what it was, and it is called not blank",
)
@pytest.mark.fault(
    5,
    injected="four bytes of junk in sector 64, or at the very end",
    must="its SHA-256 is what it was, and it is called not blank",
)
@pytest.mark.incident("a boot script formatted what it did not know")
@pytest.mark.parametrize("what", FOREIGN)
def test_a_foreign_volume_stays_as_it_is_whatever_the_launch_says(images: ImageLab, volume: str, what: str) -> None:
    make, seen = FOREIGN[what]
    make(images.volume_file(volume))
    before = images.digest(volume)
    machine = images.start_with(volume)
    report = images.wait_report(machine)
    reason = report["checks"]["units"]["detail"]
    assert not report["ok"]
    assert seen in reason
    assert LEFT_ALONE in reason or "labelled" in reason
    expect_one_mail_of_a_boot(images, machine, seen)
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    assert images.digest(volume) == before


@pytest.mark.fault(
    6,
    injected="a blank volume that fails when it is read beyond its middle, and a launch that consents to formatting it",
    must="mkfs.xfs is not run, the ready line says that it can't be read, no service starts",
)
def test_a_volume_that_can_not_be_read_to_its_end_is_left_untouched(images: ImageLab, volume: str) -> None:
    """Its file is cut short beneath its loop device: what is read beyond that is an error of the device's."""
    machine = images.start(data=False)
    wait_for(lambda: images.online(machine), 60, "the agent")
    # It looks for a volume, and would take it before it is spoiled.
    images.run(machine, "systemctl stop zmanim-data-volume")
    images.ec2.attach_volume(InstanceId=machine, VolumeId=volume, Device="/dev/sdf")
    wait_for(lambda: images.try_run(machine, "[ -b /dev/sdf ]")["Status"] == "Success", 30, "the volume")
    os.truncate(images.volume_file(volume), 512 << 20)
    read = images.try_run(machine, "dd if=/dev/sdf of=/dev/null bs=1M")
    assert "Input/output error" in read["StandardErrorContent"]
    images.run(machine, "systemctl start zmanim-data-volume || true; systemctl restart zmanim-ready || true")
    report = images.ready_reports(machine)[-1]
    assert not report["ok"]
    reason = report["checks"]["units"]["detail"]
    assert "Input/output error" in reason
    assert LEFT_ALONE in reason
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    images.terminate(machine)
    with images.volume_file(volume).open("rb") as file:
        assert not any(iter(lambda: file.read(1 << 20).strip(b"\0"), b""))


@pytest.mark.fault(
    7,
    injected="two volumes that carry our label",
    must="neither is taken, both stay as they are, no service starts",
)
def test_of_two_candidates_none_is_taken(images: ImageLab) -> None:
    expect_none_of_two_candidates(images)


@pytest.mark.fault(
    7,
    injected="no volume at all",
    must="no cluster and no Redis file on the root disk, no service starts",
)
@pytest.mark.fault(
    9,
    injected="a volume that never comes",
    must="after 90 s the ready line says so, commands still run on it, no service starts",
)
def test_without_a_data_volume_nothing_starts_on_the_root_disk(images: ImageLab) -> None:
    machine = images.start(data=False)
    report = images.wait_report(machine, seconds=150)
    assert not report["ok"]
    reason = str(report["checks"]["units"]["detail"])
    assert "no data volume within 90 s: attach one labelled zmanim-data, or a new one at /dev/sdf" in reason
    assert set(images.active(machine, *STORES).values()) == {"inactive"}
    assert images.run(machine, NOT_ON_THE_ROOT_DISK) == ""
    images.terminate(machine)


@pytest.mark.fault(8, injected="a volume that is attached 20 s after the boot began", must="the machine serves")
def test_a_volume_that_comes_20_seconds_late_is_waited_for(images: ImageLab, volume: str) -> None:
    machine = images.start(data=False)
    images.wait_state(machine, "running")
    time.sleep(20)
    assert images.ready_reports(machine) == []
    images.ec2.attach_volume(InstanceId=machine, VolumeId=volume, Device="/dev/sdf")
    assert images.expect_ready(machine)["seconds"] > 20
    images.terminate(machine)


@pytest.mark.fault(
    11,
    injected="a volume that was grown while the machine was off",
    must="the file system has the new size, its rows are there",
)
def test_a_grown_volume_grows_its_file_system(images: ImageLab) -> None:
    machine = images.serve()
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    size = "df --output=size --block-size=1M /data | tail -n 1"
    assert 900 < int(images.run(machine, size)) < 1024
    images.ec2.modify_volume(VolumeId=images.volume_of(machine), Size=3)
    images.ec2.stop_instances(InstanceIds=[machine])
    images.wait_state(machine, "stopped")
    images.ec2.start_instances(InstanceIds=[machine])
    images.expect_ready(machine, boot=2)
    assert int(images.run(machine, size)) > 2900
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    images.terminate(machine)


@pytest.mark.fault(
    13,
    injected="a cluster of PostgreSQL 16, and one of 18",
    must=(
        "not one file changes, nothing is started over and over, the ready line and one mail say both versions;"
        " repaired, it serves"
    ),
)
@pytest.mark.fault(
    14,
    injected="a cluster that lost its PG_VERSION and nothing else",
    must="no initdb, and the ready line says that it is left as it is",
)
@pytest.mark.incident("data of another major version must never be hidden by a new empty cluster")
def test_a_cluster_that_this_server_can_t_read_is_left_as_it_is_without_a_restart_loop(images: ImageLab) -> None:
    machine = images.serve()
    images.query(machine, "CREATE TABLE kept (word text); INSERT INTO kept VALUES ('precious')")
    boot = 1
    for version in (int(POSTGRESQL) - 1, int(POSTGRESQL) + 1):
        images.run(machine, f"systemctl stop postgresql; echo {version} >/data/postgres/PG_VERSION")
        before = images.run(machine, TREE)
        boot += 1
        images.ec2.reboot_instances(InstanceIds=[machine])
        report = images.wait_report(machine, boot=boot)
        assert not report["ok"]
        reason = report["checks"]["units"]["detail"]
        assert f"was written by PostgreSQL '{version}', and this image has {POSTGRESQL}: nothing was changed" in reason
        assert set(images.active(machine, *STORES).values()) == {"inactive"}
        shown = images.run(machine, "systemctl show --property=NRestarts --value postgresql zmanim-data-layout")
        assert set(shown.split()) == {"0"}
        assert images.run(machine, TREE) == before
    # Within an hour the second boot is counted, and not mailed about.
    expect_one_mail_of_a_boot(images, machine, f"was written by PostgreSQL '{int(POSTGRESQL) - 1}'")
    # The same for a folder that holds something and is no cluster.
    images.run(machine, "mv /data/postgres/PG_VERSION /data/elsewhere")
    images.ec2.reboot_instances(InstanceIds=[machine])
    report = images.wait_report(machine, boot=boot + 1)
    assert "files but no PG_VERSION: it is not a cluster, and is left as it is" in report["checks"]["units"]["detail"]
    # And whoever starts the image that fits finds everything.
    images.run(machine, f"echo {POSTGRESQL} >/data/elsewhere; mv /data/elsewhere /data/postgres/PG_VERSION")
    images.ec2.reboot_instances(InstanceIds=[machine])
    images.expect_ready(machine, boot=boot + 2)
    assert images.query(machine, "SELECT word FROM kept") == "precious"
    images.terminate(machine)


@pytest.mark.fault(
    14,
    injected="a volume that had a cluster and has none now",
    must="no initdb, and the ready line says to restore it",
)
def test_a_cluster_that_vanished_is_not_replaced_by_an_empty_one(images: ImageLab) -> None:
    machine = images.serve()
    images.run(machine, "systemctl stop postgresql; mv /data/postgres /data/gone")
    images.ec2.reboot_instances(InstanceIds=[machine])
    report = images.wait_report(machine, boot=2)
    assert "this volume had a cluster once and has none now: restore it" in report["checks"]["units"]["detail"]
    assert images.run(machine, "ls --almost-all /data").split() == [
        ".zmanim-reserve",
        ".zmanim-volume.json",
        "backup",
        "gone",
        "redis",
    ]
    images.terminate(machine)
