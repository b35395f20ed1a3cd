"""Ten first boots and ten reboots, as `inv bench` times them, within what the image is made for."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.machines.image import copy_work_tree


@pytest.mark.fault(
    50,
    injected="ten launches of new machines, each rebooted once",
    must="95 % of the first boots, and of the reboots, are ready within 60 s, by the limits of `inv bench --only boot`",
)
def test_of_ten_boots_the_slowest_is_ready_within_the_limit(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    copy_work_tree(clone)
    try:
        command = [sys.executable, "-m", "invoke", "bench", "--only", "boot", "--runs", "10"]
        subprocess.run(command, cwd=clone, stdin=subprocess.DEVNULL, check=True)
        report = json.loads((clone / "build/bench/boot.json").read_text())
    finally:
        shutil.rmtree(clone)
    assert {name: each["seconds"] for name, each in report["limits"].items()} == {
        "first boot: ready": 60,
        "reboot: ready": 60,
    }
    assert [name for name, each in report["limits"].items() if not each["kept"]] == [], report["limits"]
    assert [len(report["series"][name]["values"]) for name in report["limits"]] == [10, 10]
