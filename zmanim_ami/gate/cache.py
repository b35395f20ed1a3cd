"""What checks have said before, kept by the digest of all that they were asked about: .gate_cache in the tree.

For a check whose inputs are exactly known, and for no other. In CI, and with `--no-cache`, nothing kept is believed.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from support.digest import text_sha256, tree_sha256
from support.files import write_atomically

DIRECTORY = Path(".gate_cache")
# Set by `python -m gate --no-cache`.
DISBELIEVE = "GATE_NO_CACHE"
# Every program that Debian has brought, by its version.
_PACKAGES = Path("/var/lib/dpkg/status")


def load(tree: Path, name: str) -> dict[str, Any]:
    """Return what a check has kept under `name`; nothing in CI, when nothing is to be believed, when damaged."""
    if os.environ.get("CI") or os.environ.get(DISBELIEVE):
        return {}
    try:
        content = json.loads((tree / DIRECTORY / f"{name}.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save(tree: Path, name: str, content: Mapping[str, Any]) -> None:
    """Keep `content`, which JSON can hold, in the place of what was kept."""
    write_atomically(tree / DIRECTORY / f"{name}.json", json.dumps(content, separators=(",", ":")))


def digests(tree: Path, paths: Iterable[Path]) -> dict[str, str]:
    """Return the digest of each file (relative to `tree`) by its name: its content, and whether it may be run."""
    return {str(path): tree_sha256(tree, [tree / path]) for path in paths}


@cache
def surroundings() -> str:
    """Return the digest of what is around the tree: Python, the kernel, the host's packages, who and where we are."""
    packages = tree_sha256(_PACKAGES.parent, [_PACKAGES]) if _PACKAGES.exists() else ""
    variables = [f"{name}={os.environ.get(name, '')}" for name in ("PATH", "HOME", "LANG", "HYPOTHESIS_PROFILE")]
    return text_sha256(sys.version, *platform.uname(), str(os.geteuid()), packages, *variables)
