"""README's words on a first run come from runs, and from none that failed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.errors import raises
from zmanim_ami.evidence import first_run

FIRST: Mapping[str, Any] = {
    "ok": True,
    "ami_id": "ami-1",
    "source_ami": "ami-0",
    "published": {"/zmanim/prod/ami-id": "ami-1"},
    "boot": {"healthy_seconds": 8.84},
    "steps": [{"name": "prepare", "seconds": 360.4, "ok": True}, {"name": "build-ami", "seconds": 120.0, "ok": True}],
}
NEXT = {**FIRST, "steps": [{"name": "prepare", "seconds": 0.1}, {"name": "build-ami", "seconds": 30.0}]}
BEFORE, AFTER = "# A tool\n\n", "\nMore.\n"


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    (tmp_path / "README.md").write_text(f"{BEFORE}{first_run.BEGIN}\nold\n{first_run.END}{AFTER}")
    paths = [tmp_path / "first.json", tmp_path / "next.json"]
    for path, content in zip(paths, (FIRST, NEXT), strict=True):
        path.write_text(json.dumps(content))
    return paths


def test_the_page_says_what_both_runs_took_and_the_first_ended_in(tmp_path: Path, files: list[Path]) -> None:
    for _ in range(2):  # a second time changes nothing
        page = first_run.write(tmp_path, *files).read_text()
        assert page.startswith(BEFORE)
        assert page.endswith(AFTER)
        assert "old" not in page
        for line in ("| prepare | 360 | 0 |", "| build-ami | 120 | 30 |", "| in all | 480 | 30 |"):
            assert page.count(f"{line}\n") == 1
        assert "healthy 8.8 s after its launch" in page
        assert "/zmanim/prod/ami-id = ami-1" in page


@pytest.mark.parametrize("content", ["", "{", json.dumps({**FIRST, "ok": False, "error": "the disk is full"})])
def test_a_run_that_failed_or_is_none_is_refused_and_the_page_stays(
    tmp_path: Path, files: list[Path], content: str
) -> None:
    before = (tmp_path / "README.md").read_text()
    files[1].write_text(content)
    with raises("no-rehearsal"):
        first_run.write(tmp_path, *files)
    assert (tmp_path / "README.md").read_text() == before
