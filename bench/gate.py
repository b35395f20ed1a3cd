"""gate: how long `nox -s verify` takes when it is warm, and `-- --changed` after touching one script."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from support.process import run
from support.progress import step

TOUCHED = Path("infrastructure/packer/scripts/install-restic.sh")
NOTES = (
    "In a clone of the commit, with an environment of its own; a first run fills the caches and is not timed.",
    "verify runs every check; changed is `-- --changed` where one script differs from main.",
)


def measure(root: Path, runs: int) -> list[dict[str, float]]:
    """Time both `runs` times, in seconds; a sample for each run. Raises CommandFailed when the gate fails."""
    with tempfile.TemporaryDirectory(prefix="gate-") as directory:
        clone = Path(directory, "clone")
        run(["git", "clone", "--quiet", str(root), str(clone)])
        # The clone's own main is this commit, so that only what is touched below differs from it.
        run(["git", "-C", str(clone), "checkout", "--quiet", "-B", "main"])
        with step("first run"):
            _seconds(clone, [])
        verify = [_seconds(clone, []) for _ in range(runs)]
        script = clone / TOUCHED
        script.write_text(script.read_text().replace("\nset -o", "\n# Touched.\nset -o", 1))
        changed = [_seconds(clone, ["--", "--changed"]) for _ in range(runs)]
    return [{"verify": each, "changed": other} for each, other in zip(verify, changed, strict=True)]


def _seconds(clone: Path, arguments: Sequence[str]) -> float:
    start = time.monotonic()
    run(["./nox", "-s", "verify", *arguments], cwd=clone)
    return time.monotonic() - start
