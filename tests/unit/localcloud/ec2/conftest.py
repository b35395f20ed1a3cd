from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.localcloud.ec2.account import Ec2Lab, ec2_lab, made_image


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Ec2Lab]:
    with ec2_lab(tmp_path) as made:
        yield made


@pytest.fixture
def image(lab: Ec2Lab) -> str:
    """An image of the account's own, unencrypted."""
    return made_image(lab.client("ec2"), "own")
