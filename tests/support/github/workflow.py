"""What a workflow's file says."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml


def read(path: Path) -> dict[str, Any]:
    """Return a parsed workflow."""
    parsed: dict[Any, Any] = yaml.safe_load(path.read_text())
    parsed["on"] = parsed.pop(True, None) or parsed.get("on")  # YAML takes the word for a truth value
    return parsed


def triggered_by_tag(workflow: Mapping[str, Any], ref: str) -> bool:
    """Return whether a push of `ref` starts the workflow, by its patterns for tags."""
    patterns = workflow["on"].get("push", {}).get("tags", [])
    return ref.startswith("refs/tags/") and any(fnmatch.fnmatchcase(ref[len("refs/tags/") :], one) for one in patterns)
