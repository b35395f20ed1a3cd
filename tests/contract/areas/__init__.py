"""The rows of the contract, by area."""

from __future__ import annotations

from tests.contract.areas import images, instances, launch, volumes
from tests.contract.rows import Row

ROWS: tuple[Row, ...] = (*launch.ROWS, *instances.ROWS, *volumes.ROWS, *images.ROWS)
