from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.localcloud.ec2.account import Ec2Lab, ec2_lab, fleet_of_files


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Ec2Lab]:
    with ec2_lab(tmp_path, fleet_of_files(tmp_path)) as made:
        yield made
