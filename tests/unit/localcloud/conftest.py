"""moto in this process, changed as in a cloud, and unchanged afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest
from moto import mock_aws

from localcloud.api.patches import REGISTRY, apply
from tests.support.pipeline_cloud import environment


@pytest.fixture
def changed() -> Iterator[Callable[..., None]]:
    """What `apply` does, for as long as a test lasts."""
    with ExitStack() as kept, environment(), mock_aws():

        def change(*holders: Any) -> None:
            for each in REGISTRY:
                if each.original is None:
                    kept.callback(_remove, each.owner, each.name)
                else:
                    kept.enter_context(mock.patch.object(each.owner, each.name, vars(each.owner)[each.name]))
            apply(*holders)

        yield change


def _remove(owner: type, name: str) -> None:
    if name in vars(owner):
        delattr(owner, name)
