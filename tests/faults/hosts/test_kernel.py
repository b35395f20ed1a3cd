"""The host's kernel and one of a machine's own: the boot, and disks under other names, once in the campaign too.

tests/kernel/image/ tries the rest. One machine for all of it, whose data volume comes late.
"""

from __future__ import annotations

import pytest

from tests.kernel.image import conftest, test_boot, test_volumes
from tests.support.machines.image import ImageLab

images, volume, late = conftest.images, test_volumes.volume, test_volumes.late


@pytest.fixture(scope="module")
def served(images: ImageLab, late: str) -> str:
    images.expect_ready(late)
    return late


test_the_first_boot = test_boot.test_the_first_boot_serves_with_every_unit_active_and_none_skipped
test_other_names_of_its_disks = test_volumes.test_other_names_of_its_disks_make_no_difference
