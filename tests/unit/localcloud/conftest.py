"""moto in this process, changed as in a cloud, and unchanged afterwards."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest import mock

import pytest

CREDENTIALS = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_EC2_METADATA_DISABLED": "true"}


@pytest.fixture
def changed() -> Iterator[Callable[..., None]]:
    """What `apply` does, for as long as a test lasts."""
    # By name: what a folder's tests read is what they import, and most of those below need neither.
    patches, moto = (importlib.import_module(name) for name in ("localcloud.api.patches", "moto"))
    clean = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    with ExitStack() as kept, mock.patch.dict(os.environ, clean | CREDENTIALS, clear=True), moto.mock_aws():

        def change(*holders: Any) -> None:
            for each in patches.REGISTRY:
                if each.original is None:
                    kept.callback(_remove, each.owner, each.name)
                else:
                    kept.enter_context(mock.patch.object(each.owner, each.name, vars(each.owner)[each.name]))
            patches.apply(*holders)

        yield change


def _remove(owner: type, name: str) -> None:
    if name in vars(owner):
        delattr(owner, name)
