"""A release on a bad day of AWS's ends as on any other, and says what it waited for."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machines.image import copy_work_tree

VERSION = "v0.8.0"


@pytest.mark.parametrize("seed", [1])
def test_a_rehearsal_on_a_bad_day_publishes_what_it_built_and_says_what_it_waited_for(
    tmp_path: Path, seed: int
) -> None:
    clone = tmp_path / "clone"
    copy_work_tree(clone)
    command = [sys.executable, "-m", "invoke", "rehearse", "--version", VERSION, "--bad-day", "--seed", str(seed)]
    with (tmp_path / "stderr").open("w") as stderr:
        ended = subprocess.run(
            [*command, "--json"],
            cwd=clone,
            env={**os.environ, "CI": "true"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            check=False,
        )
    said = (tmp_path / "stderr").read_text()
    assert ended.returncode == 0, said
    assert "Traceback" not in said

    result = json.loads(ended.stdout)
    assert result["ok"]
    assert all(step["ok"] for step in result["steps"])
    assert result["published"] == {"/zmanim/prod/ami-id": result["ami_id"], "/zmanim/prod/ami-version": VERSION}
    assert result["health"]["data"]["status"] == "ok"

    # It was a bad day, of each kind, and not for our own calls alone.
    day = result["bad_day"]
    assert day["seed"] == seed
    for what in ("RequestLimitExceeded", "InsufficientInstanceCapacity", "lost answers", "NoSuchEntity"):
        assert day.get(what), day
    for what in ("zmanim-prod-instance", f"zmanim:verified on {result['ami_id']}", "/zmanim/prod/ami-id"):
        assert any(
            line.startswith("waiting for") and what in line and "eventual consistency" in line
            for line in said.splitlines()
        ), what
