"""RPMs that earlier builds compiled, kept in the user's cache and offered to the next build.

They are kept apart by account and by what the versions file says of packages and sources: packages of the same name
from another cloud's repositories are other packages, and must never find their way into an image here.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.cache import hold
from support.digest import text_sha256
from support.files import write_atomically

# Artifacts that are compiled, or that repositories come from: all but programs.
_COMPILED = {"source", "noarch"}


def directory(cache: Path, account: str, versions: Mapping[str, Any]) -> Path:
    """Return where the packages of this account and versions file are kept; not made yet.

    Programs that are used as they are, and what those are for, are no part of what is compiled.
    """
    sources = {name: each for name, each in versions["artifacts"].items() if each["architecture"] in _COMPILED}
    compiled = {name: each for name, each in versions.items() if name != "programs"} | {"artifacts": sources}
    digest = text_sha256(json.dumps(compiled, sort_keys=True))
    return cache / "packages" / f"{account}-{digest[:16]}"


def offered(rpm_cache: Path) -> str:
    """Return the directory as Packer takes it, held until this process ends: empty when it holds no package."""
    if not (hold(rpm_cache) and any(rpm_cache.glob("*.rpm"))):
        return ""
    os.utime(rpm_cache)  # its last use
    return str(rpm_cache)


def store(rpm_cache: Path, output: Path) -> int:
    """Add the packages of a build's `output` directory, each by one rename; return how many were new."""
    new = 0
    for package in sorted((output / "rpms").glob("*.rpm")):
        if (rpm_cache / package.name).exists():
            continue
        write_atomically(rpm_cache / package.name, package.read_bytes())
        new += 1
    return new
