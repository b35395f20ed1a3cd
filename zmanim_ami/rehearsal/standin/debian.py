"""What comes from Debian: the packages that the RPMs carry, and the sources in the mirror.

apt does every download, inside the tree, from the sources that mmdebstrap wrote there, with its signature checks on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from localcloud.machine.debian import SUITE
from support.errors import Error, HostLacks
from support.process import CommandFailed
from zmanim_ami.rehearsal.standin.inside import inside, inside_script

# The last Debian whose Redis is of the 7 line.
OLDER_SUITE = "bookworm"

# A tree with its repositories takes 1.6 GB while it is built; Debian's packages 300 MB.
NEEDED_BYTES = 3 << 30

# Of each package the groups of alternatives that it depends on.
Graph = Mapping[str, Sequence[Sequence[str]]]

# Beside what any instance boots with (localcloud.machine.debian).
INCLUDED = (
    "awscli", "chrony", "cpio", "createrepo-c", "dnf", "file", "gnupg", "kmod", "locales", "rpm", "rsync", "xz-utils",
)  # fmt: skip


def check_disk(directory: Path, needed: int = NEEDED_BYTES) -> None:
    """Raise `too-little-disk` unless `directory`'s file system has room for a build."""
    free = shutil.disk_usage(directory).free
    if free < needed:
        raise HostLacks(
            "too little disk space to build the stand-in",
            code="too-little-disk",
            expected=f"{needed / 1e9:.1f} GB free in {directory}",
            found=f"{free / 1e9:.1f} GB free",
            fix="free some, or point XDG_CACHE_HOME at a roomier file system",
        )


def installed_packages(root: Path) -> dict[str, str]:
    """Return the version of each Debian package that is installed in `root`."""
    output = inside(root, ["dpkg-query", "--show", "--showformat=${Package} ${Version}\n"]).stdout
    return dict(line.split(" ", 1) for line in output.splitlines())


def dependencies(root: Path, packages: Sequence[str]) -> Graph:
    """Return the dependencies of `packages`, theirs, and so on."""
    return parse_dependencies(inside(root, ["apt-cache", "depends", "--important", "--recurse", *packages]).stdout)


def parse_dependencies(text: str) -> Graph:
    """Read the output of `apt-cache depends --important --recurse`; who provides a virtual name stands in its place."""
    depends: dict[str, list[list[str]]] = {}
    providers: dict[str, list[str]] = {}
    groups: list[list[str]] = []
    target, group = "", []
    for line in text.splitlines():
        if line.startswith("    "):
            providers.setdefault(target, []).append(line.strip())
        elif line.startswith(" "):
            target = line.partition(": ")[2].strip()
            group.append(target)
            # A bar before a dependency says that the next line is an alternative to it.
            if not line.startswith(" |"):
                groups.append(group)
                group = []
        else:
            groups = depends.setdefault(line.strip(), [])
    return {
        package: [[real for name in group for real in providers.get(name, [name])] for group in groups]
        for package, groups in depends.items()
    }


def closure(
    graph: Graph, packages: Sequence[str], present: Collection[str], left_out: Callable[[str], bool]
) -> list[str]:
    """Return `packages` and all that they depend on, without what is `present` or `left_out`, in a stable order.

    Of alternatives the first is taken, unless one is present, taken already or left out.
    Raises `package-unknown` for a name that the graph does not have.
    """
    taken: dict[str, None] = {}
    ahead = list(packages)
    while ahead:
        name = ahead.pop(0)
        if name in taken:
            continue
        if name not in graph:
            raise Error(
                f"Debian has no package {name}",
                code="package-unknown",
                expected="every package of packages.toml.j2",
                found="apt does not know it",
            )
        taken[name] = None
        for group in graph[name]:
            if not any(each in present or each in taken or left_out(each) for each in group):
                ahead.append(group[0])
    return list(taken)


def download_packages(root: Path, downloads: Path, packages: Sequence[str]) -> dict[str, Path]:
    """Download Debian packages to `downloads`, unless they are there, and return each one's file.

    Raises `not-downloaded` with apt's last lines.
    """
    output = _download(root, "download.sh", packages, downloads, "/run/downloads")
    names = [line.split()[1] for line in output.splitlines() if line.startswith("'")]
    return {name.split("_")[0]: downloads / name for name in names}


def derived_sources(sources: str) -> str:
    """Return apt sources of source packages, for this suite and the older one, from a tree's own one-line sources.

    Raises `suite-unknown` when no line names the suite.
    """
    lines = [line.split() for line in sources.splitlines()]
    own = [f"deb-src {' '.join(line[1:])}" for line in lines if line and line[0] == "deb"]
    if not any(SUITE in line for line in own):
        raise Error(
            "can't derive where Debian's source packages are",
            code="suite-unknown",
            expected=f"lines for {SUITE} in the tree's /etc/apt/sources.list",
            found=sources.strip() or "nothing",
        )
    return "\n".join([*own, *(line.replace(SUITE, OLDER_SUITE) for line in own)]) + "\n"


def fetch_sources(root: Path, destination: Path, packages: Sequence[str]) -> None:
    """Download the upstream archives of Debian source packages (`name` or `name/suite`) to `destination`.

    One that can't be had is left out: mirror.collect decides what may be missing. Raises `not-downloaded` with apt's
    last lines when not even the lists can be had.
    """
    sources = derived_sources((root / "etc/apt/sources.list").read_text())
    _download(root, "fetch-sources.sh", packages, destination, "/run/sources", input=sources)


def _download(
    root: Path, script: str, packages: Sequence[str], directory: Path, inside_it: str, *, input: str = ""
) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    try:
        return inside_script(root, script, *packages, binds={directory: inside_it}, input=input).stdout
    except CommandFailed as failure:
        raise Error(
            "could not download from Debian for the stand-in",
            code="not-downloaded",
            expected=", ".join(packages),
            found=failure.found,
            fix="check the network and try again; what was downloaded is kept",
        ) from failure
