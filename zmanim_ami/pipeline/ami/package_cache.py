"""RPMs that earlier builds compiled, kept in the user's cache and offered to the next build.

They are kept apart by account and by versions file: packages of the same name from another cloud's repositories are
other packages, and must never find their way into an image here.
"""

from __future__ import annotations

from pathlib import Path

from support.files import write_atomically


def directory(cache: Path, account: str, versions_sha256: str) -> Path:
    """Return where the packages of this account and versions file are kept; not made yet."""
    return cache / "packages" / f"{account}-{versions_sha256[:16]}"


def offered(rpm_cache: Path) -> str:
    """Return the directory as Packer takes it: empty when it holds no package."""
    return str(rpm_cache) if any(rpm_cache.glob("*.rpm")) else ""


def store(rpm_cache: Path, output: Path) -> int:
    """Add the packages of a build's `output` directory, each by one rename; return how many were new."""
    new = 0
    for package in sorted((output / "rpms").glob("*.rpm")):
        if (rpm_cache / package.name).exists():
            continue
        write_atomically(rpm_cache / package.name, package.read_bytes())
        new += 1
    return new
