"""What the local repositories offer: packages.toml.j2, read and checked."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from zmanim_ami.rehearsal.standin.templates import render

_HERE = Path(__file__).parent
PAYLOAD = _HERE / "payload"
# Of packages that are part of the machine image: they are installed in the tree and offered nowhere.
INSTALLED = "installed"
# Of packages that are files to download: they lie in the mirror.
MIRRORED = "mirrored"


@dataclass(frozen=True)
class Source:
    """A Debian package whose files a package carries: those that match `only`, if given, and not `without`."""

    package: str
    only: Sequence[str] = ()
    without: Sequence[str] = ()


@dataclass(frozen=True)
class Package:
    """One RPM to be made. packages.toml.j2 says what each field means."""

    name: str
    repository: str
    sources: Sequence[Source] = ()
    version: str = ""
    requires: Sequence[str] = ()
    provides: Sequence[str] = ()
    programs: str = ""
    programs_in: str = "/usr/bin"
    links: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, str] = field(default_factory=dict)
    moved: Sequence[str] = ()
    units: Sequence[str] = ()
    before: str = ""
    after: str = ""
    own_files: str = ""
    release: str = "1.amzn2023.standin"

    @property
    def key(self) -> str:
        """Return REPOSITORY/NAME: two repositories may offer packages of one name."""
        return f"{self.repository}/{self.name}"

    @property
    def payload(self) -> Path:
        """Return the directory of its own files, which most packages don't have."""
        return PAYLOAD / (self.own_files or self.name)


@dataclass(frozen=True)
class Catalogue:
    """All packages, Debian names and paths (patterns) that none of them carries, and what the tree itself carries."""

    packages: Sequence[Package]
    leave_out: Sequence[str]
    without: Sequence[str]
    carried: Mapping[str, str]

    def repositories(self) -> list[str]:
        """Return the names of the repositories, each once, in their order."""
        return list(dict.fromkeys(p.repository for p in self.packages if p.repository not in (INSTALLED, MIRRORED)))

    def left_out(self, debian_package: str) -> bool:
        """Return whether a Debian package is never followed."""
        return any(fnmatchcase(debian_package, pattern) for pattern in self.leave_out)


def load(triplet: str, major: str) -> Catalogue:
    """Return the catalogue for a machine of Debian's `triplet`, as x86_64-linux-gnu, and PostgreSQL's `major`."""
    data = tomllib.loads(render((_HERE / "packages.toml.j2").read_text(), triplet=triplet, major=major))
    packages = [
        Package(**{**entry, "sources": [Source(**source) for source in entry.get("sources", ())]})
        for entry in data["package"]
    ]
    return Catalogue(packages, data["leave_out"], data["without"], data["carried"])


def required_by(package: Package, packages: Sequence[Package]) -> set[str]:
    """Return the keys of all packages that `package` requires, directly or not.

    A name means the package of the same repository that has or provides it, else any other's.
    Raises KeyError for a requirement that no package here meets.
    """
    required = [_met_by(package.repository, name, packages) for name in package.requires]
    return {each.key for each in required}.union(*(required_by(each, packages) for each in required))


def _met_by(repository: str, name: str, packages: Sequence[Package]) -> Package:
    offers = [each for each in packages if name == each.name or name in each.provides]
    if not offers:
        raise KeyError(name)
    return min(offers, key=lambda each: each.repository != repository)
