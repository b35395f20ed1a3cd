"""The versions file: every pin of the image. Names that contain PostgreSQL's major have {major} in its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

VERSIONS = Path("infrastructure/packer/versions.json")


def read(root: Path) -> dict[str, Any]:
    """Return the versions file of the clone at `root`, with PostgreSQL's major wherever it says {major}."""
    text = (root / VERSIONS).read_text()
    named: dict[str, Any] = json.loads(text.replace("{major}", json.loads(text)["servers"]["postgresql"]["major"]))
    return named
