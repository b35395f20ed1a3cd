"""Making the thin RPMs and the repositories that offer them, with the tree's own rpmbuild and createrepo_c."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from support.errors import Error
from support.process import CommandFailed
from zmanim_ami.rehearsal.standin.inside import SCRIPTS, inside
from zmanim_ami.rehearsal.standin.packages import Catalogue, Package, Source
from zmanim_ami.rehearsal.standin.templates import render

_HERE = Path(__file__).parent
# Where the work directories are seen inside the tree.
_WORK = "/run/work"
# Below the work directory: the packages' own files, rendered.
OWN_FILES = "payload"
_DOWNLOADS = "/run/downloads"


def upstream_version(debian_version: str) -> str:
    """Return the part of a Debian version that rpm takes: 17.12 of 17.12-0+deb13u1, 3.5.2 of 3.5.2+dfsg-1."""
    without_epoch = debian_version.replace("%3a", ":").rsplit(":", 1)[-1]
    match = re.match(r"[0-9][0-9A-Za-z.]*", without_epoch)
    return match.group().rstrip(".") if match else "0"


def render_package(
    package: Package, version: str, debs: Sequence[tuple[Source, str]], without: Sequence[str] = (), payload: str = ""
) -> str:
    """Return the spec of a thin RPM of `debs`, each with its file inside the tree, without files of those patterns.

    `payload` is its directory of own files inside the tree, if it has any.
    """
    values = {"package": package, "version": version, "debs": debs, "without": without, "payload": payload}
    return render((_HERE / "thin.spec.j2").read_text(), **values)


def render_carried(release: str, debian: str, carried: Mapping[str, str], libraries: Sequence[str]) -> str:
    """Return the spec of system-release and of each package (name: version) that the tree carries.

    `libraries` are what rpm calls its shared libraries, for RPMs that require them.
    """
    values = {"release": release, "debian": debian, "carried": carried, "libraries": libraries}
    return render((_HERE / "carried.spec.j2").read_text(), **values)


def build(root: Path, work: Path, downloads: Path, specs: Mapping[str, str]) -> None:
    """Build `specs` ("REPOSITORY/NAME": text) inside `root`; the RPMs appear in `work`/REPOSITORY.

    As many at once as there are processors, in the given order: put the large ones first. Raises `not-packaged`.
    """
    for name, text in specs.items():
        path = work / "specs" / f"{name}.spec"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (work / "build").mkdir(parents=True, exist_ok=True)
    command = ["xargs", f"--max-procs={os.cpu_count() or 1}", "--max-args=1", "/bin/sh", f"{SCRIPTS}/build-rpm.sh"]
    _packaging(root, work, downloads, command, input="\n".join(specs) + "\n")


def make_repositories(root: Path, work: Path, downloads: Path, repositories: Sequence[str]) -> Path:
    """Make repositories of the RPMs in `work`/`repositories`, signed by a key of their own; return its public file.

    The private half is gone when this returns, so nobody else's package can ever pass. Raises `not-packaged`.
    """
    _packaging(root, work, downloads, ["/bin/sh", f"{SCRIPTS}/make-repositories.sh", *repositories])
    return work / "signer.asc"


def _packaging(root: Path, work: Path, downloads: Path, command: Sequence[str], input: str | None = None) -> None:
    try:
        inside(root, command, binds={work: _WORK, downloads: _DOWNLOADS}, input=input)
    except CommandFailed as failure:
        raise Error(
            "could not make the stand-in's packages",
            code="not-packaged",
            found=failure.found,
            fix="this is an error in packages.toml.j2 or in its specs: say which package it names",
        ) from failure


def plan(catalogue: Catalogue, closures: Mapping[str, Sequence[str]], files: Mapping[str, Path]) -> dict[str, str]:
    """Return the specs ("REPOSITORY/NAME": text) of all packages, the one with most to unpack first.

    `closures` has the Debian packages that each package (by its key) carries, `files` their files. A package's version
    is its own, else that of the first Debian package that it names.
    """

    def size(package: Package) -> int:
        return sum(files[name].stat().st_size for name in closures.get(package.key, ()))

    specs: dict[str, str] = {}
    for package in sorted(catalogue.packages, key=size, reverse=True):
        names = closures.get(package.key, ())
        sources = {name: Source(name) for name in names} | {source.package: source for source in package.sources}
        debs = [(sources[name], f"{_DOWNLOADS}/{files[name].name}") for name in names]
        payload = f"{_WORK}/{OWN_FILES}/{package.payload.name}" if package.payload.is_dir() else ""
        version = package.version or upstream_version(files[package.sources[0].package].name.split("_")[1])
        specs[package.key] = render_package(package, version, debs, catalogue.without, payload)
    return specs
