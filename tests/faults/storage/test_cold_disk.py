"""First boots from a disk that nothing has read yet, as from a volume that was just made of a snapshot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines import cold_disk
from tests.support.machines.image import ImageLab, copy_work_tree, image_cloud
from tests.support.machines.lab import wait_for
from tests.support.machines.releases import ENVIRONMENT, Follower

# What a first boot reads at least, in bytes: it was 160 to 170 MiB. From the host's cache it is next to nothing.
LEAST_READ = 100 << 20


@pytest.fixture(scope="module")
def images() -> Iterator[ImageLab]:
    with image_cloud(own_base=True) as lab:
        yield lab


@pytest.mark.incident("the limits of a boot's units were for warm disks")
@pytest.mark.parametrize("pace", [cold_disk.SLOW, cold_disk.SLOWER], ids=["slow", "slower"])
def test_a_first_boot_from_a_cold_disk_is_ready_with_the_release_that_the_channel_has(
    images: ImageLab, tmp_path: Path, pace: cold_disk.Pace
) -> None:
    copy_work_tree(tmp_path / "clone")
    follower = Follower(images, tmp_path / "clone")
    version = follower.publish()
    with cold_disk.slowed(images.cloud, pace) as slowed:
        cold_disk.drop(images.root, images.cloud.directory / "layers" / images.image)
        follower.machine = images.start(ENVIRONMENT)
        report = images.wait_report(follower.machine, seconds=900)
        wait_for(lambda: slowed.holds(follower.machine), 10, "all of the machine's processes to be slowed")
        read = slowed.read_bytes(follower.machine)
    failed = {name: check["detail"] for name, check in report["checks"].items() if not check["ok"]}
    assert report["ok"], failed
    assert report["version"] == version, follower.journal()
    assert LEAST_READ < read < 1.1 * pace.read * report["seconds"], f"{read >> 20} MiB in {report['seconds']} s"
    images.terminate(follower.machine)
