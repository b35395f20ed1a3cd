"""What has changed: against main, and since a check has passed (.gate_cache, by the digest of what the check reads).

In CI, and with `--no-cache`, nothing in the cache is believed. What failed is never in it.
"""

from __future__ import annotations

import json
import os
import platform
import re
import sys
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from support.digest import text_sha256, tree_sha256
from support.files import write_atomically
from support.git import git

# Set by `python -m zmanim_ami.gate --no-cache`.
NO_CACHE = "GATE_NO_CACHE"
CACHE = Path(".gate_cache")
# Every program that Debian has installed, by its version.
_PACKAGES = Path("/var/lib/dpkg/status")
_VARIABLES = re.compile(r"PATH|HOME|LANG|XDG_CACHE_HOME|(HYPOTHESIS|PKR|PACKER|AWS|ZMANIM|GO)\w*")


def changed_files(tree: Path) -> list[str]:
    """Return the files that differ from the merge base with main, committed or not, new ones and removed ones too.

    Without a branch main (a CI's shallow clone has none) everything counts as changed.
    """
    bases = (git(tree, "merge-base", "HEAD", name, check=False) for name in ("main", "origin/main"))
    base = next(filter(None, bases), "")
    if not base:
        return git(tree, "ls-files").splitlines()
    differing = git(tree, "diff", "--name-only", "--no-renames", base.strip()).splitlines()
    new = git(tree, "ls-files", "--others", "--exclude-standard").splitlines()
    return sorted({*differing, *new})


def digests(tree: Path, parts: Mapping[str, Collection[str]]) -> dict[str, str]:
    """Return the digest of each part of a check: of the files of the tree that it reads, and of what is around it."""
    content = {name: tree_sha256(tree, [tree / name]) for name in set[str]().union(*parts.values())}
    around = _surroundings(tree.absolute())
    return {part: text_sha256(around, *(content[name] for name in sorted(names))) for part, names in parts.items()}


@cache
def _surroundings(tree: Path) -> str:
    """Return the digest of what is around the tree: Python, the kernel, the host's packages, the user, the day."""
    packages = tree_sha256(_PACKAGES.parent, [_PACKAGES]) if _PACKAGES.exists() else ""
    variables = sorted(f"{name}={value}" for name, value in os.environ.items() if _VARIABLES.fullmatch(name))
    today = datetime.now(UTC).date().isoformat()  # a pin's review date may have passed since yesterday
    return text_sha256(str(tree), sys.version, *platform.uname(), str(os.geteuid()), today, packages, *variables)


def passed(tree: Path, check: str) -> dict[str, str]:
    """Return the digest with which each part of a check has passed; nothing in CI, with NO_CACHE, when damaged."""
    if os.environ.get("CI") or os.environ.get(NO_CACHE):
        return {}
    try:
        content = json.loads((tree / CACHE / f"{check}.json").read_text())
    except (FileNotFoundError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def save(tree: Path, check: str, passing: Mapping[str, str]) -> None:
    """Write the digest with which each part of a check has passed, in the place of what was there."""
    write_atomically(tree / CACHE / f"{check}.json", json.dumps(passing))
