"""What is asked of this host, and where programs are looked for."""

from __future__ import annotations

import os
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Requirement:
    """One thing that is asked of this host, and what was found of it."""

    name: str
    purpose: str
    ok: bool
    found: str
    fix: str
    needed: bool = True  # for a rehearsal; what only the gate asks for is not
    package: str = field(default="", repr=False)  # Debian's, which brings it


def search_path() -> str:
    """Return where programs are looked for: a plain user's PATH on Debian has no sbin, where losetup and nft are."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
