"""The locks of Python packages lock what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support import ROOT
from zmanim_ami.pipeline.pins.bump import LOCKS

PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


def _group(name: str) -> Iterator[str]:
    for each in PYPROJECT["dependency-groups"][name]:
        yield from _group(each["include-group"]) if isinstance(each, dict) else [each]


@pytest.mark.incident("jsonschema had moved to another group, and requirements-mutation.txt still brought it")
@pytest.mark.parametrize("lock", [lock for lock, sources in LOCKS.items() if "pyproject.toml" in sources])
def test_a_lock_holds_what_is_asked_for_and_nothing_that_no_longer_is(lock: str) -> None:
    requested = [*PYPROJECT["project"]["dependencies"], *_group(LOCKS[lock][-1])]
    # Each package, and below it who wants it: the project itself, or another package.
    locked = re.findall(
        r"(?m)^([a-z0-9-]+)(?:\[.*\])?==(?:.*\n)(?: .*\n)*?    # via(?:\n    #  )? zmanim-ami",
        (ROOT / lock).read_text(),
    )
    assert sorted(locked) == sorted(re.split(r"[^A-Za-z0-9-]", each)[0].lower() for each in requested)
