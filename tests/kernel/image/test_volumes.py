"""Data volumes as NVMe disks: late, under other names, and two of them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from localcloud import control
from localcloud.bad_day import BadDay
from tests.support.machines.image import ImageLab
from tests.support.machines.lab import wait_for
from tests.support.machines.promises import tuning, units
from tests.support.machines.promises.volumes import expect_none_of_two_candidates

ROOT_DISK, DATA_DISK = (f"findmnt --noheadings --output SOURCE {where}" for where in ("/", "/data"))
# What systemd says on the console when it begins to look; the line's end may be cut off there.
LOOKS = "zmanim-data-volume"


@pytest.fixture(scope="module")
def volume(images: ImageLab) -> Iterator[str]:
    made = images.new_volume()
    yield made
    images.ec2.delete_volume(VolumeId=made)


@pytest.fixture(scope="module")
def late(images: ImageLab, volume: str) -> Iterator[str]:
    """One machine of 1 GiB, launched without a data volume, to which one comes 20 s after it has begun to look."""
    machine = images.start(data=False, InstanceType="t4g.micro")
    wait_for(lambda: LOOKS in images.console(machine), images.patience, "the machine to look for its volume")
    time.sleep(20)
    assert images.ready_reports(machine) == []
    images.ec2.attach_volume(InstanceId=machine, VolumeId=volume, Device="/dev/sdf")
    yield machine
    images.terminate(machine)


@pytest.mark.fault(
    8,
    injected="an NVMe disk that comes 20 s after the machine began to look",
    must="the machine serves, and every unit is well",
)
def test_a_volume_that_comes_20_seconds_late_is_waited_for(images: ImageLab, late: str) -> None:
    images.expect_ready(late)
    stamps = "ExecMainStartTimestampMonotonic", "ExecMainExitTimestampMonotonic"
    began, ended = (
        int(images.run(late, f"systemctl show --value --property={stamp} zmanim-data-volume")) for stamp in stamps
    )
    assert ended - began > 20_000_000
    units.expect_all_well(images, late, skipped=())


def test_memory_of_1_gib_is_what_the_kernel_sees_and_what_the_servers_are_sized_by(images: ImageLab, late: str) -> None:
    tuning.expect_sized_for(images, late, 1024)


def test_other_names_of_its_disks_make_no_difference(images: ImageLab, late: str, volume: str) -> None:
    """The kernel numbers disks as it finds them: at one boot the root's is the first, at the next one the last."""
    root, data = images.run(late, ROOT_DISK), images.run(late, DATA_DISK)
    assert root.rpartition("p")[0] < data
    units.write_what_a_boot_must_keep(images, late)
    before, boots = images.run(late, units.IDENTITY), len(images.ready_reports(late))
    # Blank, and the launch's tag consents to formatting: not this one.
    blank = images.new_volume()
    images.ec2.attach_volume(InstanceId=late, VolumeId=blank, Device="/dev/sdg")
    wait_for(lambda: images.try_run(late, "[ -b /dev/sdg ]")["Status"] == "Success", images.patience, "a second volume")
    control.set_bad_day(images.cloud, BadDay(root_disk_last=True))
    try:
        images.ec2.reboot_instances(InstanceIds=[late])
        images.expect_ready(late, boot=boots + 1)
    finally:
        control.set_bad_day(images.cloud, None)
    units.expect_what_a_boot_keeps(images, late, before)
    units.expect_all_well(images, late, skipped=())
    assert images.run(late, ROOT_DISK).rpartition("p")[0] > images.run(late, DATA_DISK) != data
    assert images.run(late, "readlink -f /dev/sdf") == images.run(late, DATA_DISK)
    assert images.run(late, "cat /run/zmanim/data-volume-id") == volume
    assert images.run(late, "blkid --probe /dev/sdg || echo blank") == "blank"
    images.ec2.detach_volume(VolumeId=blank)
    images.ec2.get_waiter("volume_available").wait(VolumeIds=[blank])
    images.ec2.delete_volume(VolumeId=blank)


@pytest.mark.fault(
    7,
    injected="two volumes that carry our label, as NVMe disks",
    must="neither is taken, both stay as they are, no service starts",
)
def test_of_two_candidates_none_is_taken(images: ImageLab) -> None:
    expect_none_of_two_candidates(images)
