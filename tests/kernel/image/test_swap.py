"""One data volume and two machines with kernels of their own, the second one larger: what an upgrade does."""

from __future__ import annotations

import pytest

from tests.support.machines.image import ImageLab
from tests.support.machines.promises import swap, tuning, units

SEED = "sha256sum </var/lib/systemd/random-seed"


@pytest.mark.incident("/data was lost with its instance, or belonged to nobody on the next one")
def test_what_was_written_survives_its_machine_and_is_served_by_one_of_4_gib(images: ImageLab, served: str) -> None:
    seed = images.run(served, SEED)
    left = swap.write_and_leave(images, served)
    second = swap.launch_with(images, left, InstanceType="m7g.medium")
    swap.expect_what_was_left(images, second, left)
    units.expect_all_well(images, second, skipped=())
    tuning.expect_sized_for(images, second, 4096)
    # Each machine makes its own: the image has none.
    assert images.run(second, SEED) != seed
    images.terminate(second)
    images.ec2.delete_volume(VolumeId=left.volume)
