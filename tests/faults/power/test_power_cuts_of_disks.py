"""Power cuts that take a disk's own cache as well, of a machine with a kernel of its own: a few of tests/kernel's."""

from __future__ import annotations

from pathlib import Path

import pytest

from localcloud.settings import CloudSettings
from tests.support.power_cuts.guest import guest

CUTS = 2


@pytest.mark.fault(
    18,
    injected="power cuts that take a disk's own cache along, on a kernel of its own",
    must="every row and file that was synced is there, and what was not is lost",
)
def test_a_cut_takes_what_was_not_synced_with_the_disk_s_cache_and_nothing_else(
    workspace: Path, base_root: Path, cloud_settings: CloudSettings
) -> None:
    with guest(workspace, base_root, cloud_settings) as cuts:
        cuts.call("start")
        for _ in range(CUTS):
            cuts.write(least=10)
            cuts.cut()
            lost = cuts.lost()
            assert (lost["on"], lost["file"]) == (0, 0)
            assert lost["off"] + lost["redis"] > 0
