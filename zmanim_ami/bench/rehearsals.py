"""rehearsal: the steps of `inv rehearse`, as its result.json says them."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zmanim_ami.bench.figures import repeat
from zmanim_ami.rehearsal.run import run_task

VERSION = "v0.0.0"
NOTES = (
    "A whole rehearsal each time, with a cloud of its own; the tools and the base are in the cache.",
    "healthy_seconds is how long after RunInstances verify-ami saw the machine ready.",
)


def measure(root: Path, runs: int) -> list[dict[str, float]]:
    """Rehearse `runs` times. Raises `step-failed`."""
    command = ("rehearse", "--version", VERSION, "--no-install")
    return repeat("rehearsal", runs, lambda _number: seconds(run_task(root, os.environ, *command)))


def seconds(result: Mapping[str, Any]) -> dict[str, float]:
    """Return the seconds of every step of a rehearsal's result, of all together, and of its verified boot.

    And how often each task called AWS.
    """
    steps = {each["name"]: float(each["seconds"]) for each in result["steps"]}
    boot = {f"boot: {k}": float(v) for k, v in result["boot"].items()}
    calls = {f"calls: {each['name']}": float(each["calls"]) for each in result["steps"] if each["calls"] is not None}
    return {"in all": sum(steps.values()), **steps, **boot, **calls}
