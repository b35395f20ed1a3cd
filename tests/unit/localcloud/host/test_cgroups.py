"""Control groups go away while they are walked through: processes end when they like."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from localcloud.host import cgroups


def test_groups_that_are_removed_meanwhile_hold_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "a/b", "c"):
        (tmp_path / "group" / name).mkdir(parents=True)
        (tmp_path / "group" / name / "cgroup.procs").write_text("7\n")
    original = os.walk

    def walk(top: Any, **given: Any) -> Iterator[Any]:
        for entry in original(top, **given):
            shutil.rmtree(tmp_path / "group" / "a", ignore_errors=True)
            yield entry

    monkeypatch.setattr(os, "walk", walk)
    assert cgroups.members(tmp_path / "group", tmp_path / "none") == [7]
