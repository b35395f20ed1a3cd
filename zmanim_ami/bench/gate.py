"""gate: how long `nox -s verify` takes, warm and otherwise, and `-- --changed` after touching one script."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

from support.git import git
from support.process import run
from support.progress import step

SCRIPT = Path("infrastructure/packer/scripts/install-restic.sh")
MODULE = Path("infrastructure/packer/files/zmanim_host/storage/volume.py")
NOTES = (
    "In a clone of the commit, with an environment of its own; a first run fills the caches and is not timed.",
    "verify: every check, nothing touched since the last run. module: the same after touching one shipped module.",
    "changed: `-- --changed` where one script differs from main, touched anew each time.",
    "anew: `-- --no-cache`, once: all unit tests run, though nothing was touched.",
    "cpu: seconds of processor time, of all processes together.",
)


def measure(root: Path, runs: int) -> list[dict[str, float]]:
    """Time each `runs` times, in seconds; a sample for each run. Raises CommandFailed when the gate fails."""
    with tempfile.TemporaryDirectory(prefix="gate-") as directory:
        clone = Path(directory, "clone")
        git(root, "clone", "--quiet", str(root), str(clone))
        # The clone's own main is this commit, so that only what is touched below differs from it.
        git(clone, "checkout", "--quiet", "-B", "main")
        with step("first run"):
            _seconds("", clone)
        samples = [_seconds("verify", clone) for _ in range(runs)]
        samples[0] |= _seconds("anew", clone, "--", "--no-cache")
        for sample in samples:
            sample.update(_seconds("module", clone, touched=MODULE))
        git(clone, "checkout", "--quiet", "--", str(MODULE))
        for sample in samples:
            sample.update(_seconds("changed", clone, "--", "--changed", touched=SCRIPT))
    return samples


def _seconds(name: str, clone: Path, *arguments: str, touched: Path | None = None) -> dict[str, float]:
    if touched:
        text = (clone / touched).read_text()
        (clone / touched).write_text(re.sub(r"\n(?=from __future__|set -o)", "\n# Touched.\n", text, count=1))
    start, used = time.monotonic(), sum(os.times()[2:4])
    run(["./nox", "-s", "verify", *arguments], cwd=clone)
    return {name: time.monotonic() - start, f"{name}: cpu": sum(os.times()[2:4]) - used}
