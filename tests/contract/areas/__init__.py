"""The rows of the contract, by area."""

from __future__ import annotations

from tests.contract.areas import (
    identities,
    images,
    instances,
    keys,
    launch,
    launching,
    network,
    objects,
    parameters,
    templates,
    volumes,
    watching,
)
from tests.contract.rows import Row

_AREAS = (
    *(launch, launching, instances, volumes, images, network, templates),
    *(parameters, keys, identities, objects, watching),
)
ROWS: tuple[Row, ...] = tuple(row for area in _AREAS for row in area.ROWS)
