"""gate: how long `nox -s verify` takes, warm and otherwise, and `-- --changed` after touching one script."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
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
            _seconds("", clone, [])
        samples: list[dict[str, float]] = [_seconds("verify", clone, []) for _ in range(runs)]
        samples[0] |= _seconds("anew", clone, ["--", "--no-cache"])
        for sample in samples:
            _touch(clone / MODULE, "\nfrom __future__")
            sample.update(_seconds("module", clone, []))
        git(clone, "checkout", "--quiet", "--", str(MODULE))
        for sample in samples:
            _touch(clone / SCRIPT, "\nset -o")
            sample.update(_seconds("changed", clone, ["--", "--changed"]))
    return samples


def _touch(path: Path, before: str) -> None:
    path.write_text(path.read_text().replace(before, f"\n# Touched.{before}", 1))


def _seconds(name: str, clone: Path, arguments: Sequence[str]) -> dict[str, float]:
    start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    run(["./nox", "-s", "verify", *arguments], cwd=clone)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return {name: time.monotonic() - start, f"{name}: cpu": cpu}
