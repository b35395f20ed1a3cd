"""Rendering docs/ami-contents.md from what tree.py has read."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from support.errors import Error
from zmanim_ami.pipeline.ami.provenance import PACKER_DIRECTORY
from zmanim_ami.pipeline.docs import inventory as contents_inventory
from zmanim_ami.pipeline.docs import tree
from zmanim_ami.pipeline.docs.inventory import Extract
from zmanim_ami.pipeline.docs.tree import PAGE, Contents
from zmanim_ami.pipeline.shipped.install import FILES


@dataclass(frozen=True)
class Written:
    """Where the page is, and whether this call changed it."""

    path: Path
    changed: bool


@dataclass(frozen=True)
class _InstancePath:
    """A path on an instance: what is there, and the words of a file of the tree without which that is no longer so."""

    path: str
    what: str
    file: str
    words: str


_NOT_BUILT = "not in the extract yet"
_INSTANCE_PATHS = (
    _InstancePath(
        "/opt/zmanim/releases/VERSION/",
        "a release of the API: program, migrations, manifest",
        "files/install.tsv",
        "/opt/zmanim/releases/VERSION/zmanim-api",
    ),
    _InstancePath(
        "/opt/zmanim/baked",
        "link to the release that came with the image",
        "scripts/configure-systemd.sh",
        "/opt/zmanim/baked",
    ),
    _InstancePath(
        "/opt/zmanim/current",
        "link to the release that runs; /opt/zmanim/zmanim-api leads through it",
        "scripts/configure-systemd.sh",
        "current/zmanim-api /opt/zmanim/zmanim-api",
    ),
    _InstancePath("/usr/local/bin/restic", "restic", "scripts/install-restic.sh", "/usr/local/bin/restic"),
    _InstancePath(
        "/usr/share/zmanim/versions.json",
        "every pin that the image was built from",
        "files/install.tsv",
        "/usr/share/zmanim/versions.json",
    ),
    _InstancePath(
        "/usr/share/zmanim/inventory.json",
        "exactly what is in this image",
        "scripts/inventory.sh",
        "/usr/share/zmanim/inventory.json",
    ),
    _InstancePath("/data", "the data volume (XFS)", "files/data.mount", "Where=/data"),
    _InstancePath(
        "/data/postgres", "PostgreSQL's cluster", "files/postgresql.conf", "data_directory = '/data/postgres'"
    ),
    _InstancePath(
        "/data/.zmanim-reserve",
        "64 MiB that are given up when a store stops on a full volume, so that it starts again",
        "files/zmanim_host/storage/reserve.py",
        'NAME = ".zmanim-reserve"',
    ),
    _InstancePath("/data/redis", "Redis's snapshot and append-only files", "files/redis.conf", "dir /data/redis"),
    _InstancePath("/run/postgresql", "PostgreSQL's socket", "files/postgresql.conf", "'/run/postgresql'"),
    _InstancePath("/run/redis/redis.sock", "Redis's socket", "files/redis.conf", "unixsocket /run/redis/redis.sock"),
    _InstancePath(
        "/run/zmanim",
        "what this boot has found out: sizes, environment, readiness; on tmpfs",
        "files/zmanim-tmpfiles.conf",
        "d /run/zmanim ",
    ),
    _InstancePath(
        "/run/zmanim/secrets",
        "secrets, one file for each reader; root's, on tmpfs",
        "files/zmanim-tmpfiles.conf",
        "d /run/zmanim/secrets 0700 root root",
    ),
)


def write(root: Path, inventory: Path | None = None) -> Written:
    """Write the page of the clone at `root`; with a build's `inventory`, the extract that it is made from as well.

    Raises `contents-unreadable`, `inventory-unusable`.
    """
    if inventory is not None:
        contents_inventory.write(root, inventory, tree.read(root))
    text = page(root)
    path = root / PAGE
    changed = not path.exists() or path.read_text() != text
    if changed:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Written(PAGE, changed)


def page(root: Path) -> str:
    """Return the page's text.

    Raises `contents-unreadable` when the tree no longer has what it says, `inventory-unusable` without an extract.
    """
    contents, built = tree.read(root), contents_inventory.read(root)
    return "\n".join(
        [
            *_head(contents),
            *_packages(contents),
            *_units(contents),
            *_users(contents, built),
            *_ports(contents, built),
            *_instance_paths(root),
            *_files(root, contents),
            *_other_files(built),
        ]
    )


def _head(contents: Contents) -> list[str]:
    base = contents.versions["base"]
    return [
        "# What is in the image",
        "",
        "Written by `./inv write-contents` from `infrastructure/packer/` and `docs/ami-inventory.json`: the part of a",
        "built image's inventory that no file of the tree says, taken anew by `./inv write-contents --inventory FILE`.",
        "Tests compare the page with both, and both with a built image. Don't edit it.",
        "",
        f"Amazon Linux 2023, release {base['release']}, kernel {base['kernel']}, ARM64. {base['why']}",
        "",
        "What this page does not know, an image's own inventory says (`/usr/share/zmanim/inventory.json` on an",
        "instance, `inventory.json` among a build's by-products): the exact version of every package, those of the",
        "base included, every unit's state, and the checksum of every file of ours.",
        "",
    ]


def _packages(contents: Contents) -> list[str]:
    kinds = {
        "source": "compiled while building, as an RPM",
        "aarch64": "the released program for ARM64",
        "noarch": "a package, as it is",
    }
    building = ", ".join(f"`{name}`" for name in contents.versions["build_packages"])
    return [
        "## Packages",
        "",
        "The repositories are locked to the release above, so it decides versions; a build fails below the minimum.",
        "In a rehearsal the same names come from the stand-in, in other versions (docs/rehearsal.md).",
        "",
        *_table(
            ("package", "at least", "repository", "why"),
            (
                (f"`{name}`", p["minimum"], p["repository"], p["why"])
                for name, p in contents.versions["packages"].items()
            ),
        ),
        "With `postgresql_repo` = `pgdg` these come in place of `spal-release` and all of PostgreSQL's and PostGIS's",
        "above, and no extension is compiled:",
        "",
        *_table(
            ("package", "at least", "repository", "why"),
            (
                (f"`{name}`", p["minimum"], p["repository"], p["why"])
                for name, p in contents.versions["pgdg_packages"].items()
            ),
        ),
        "What is in no repository, pinned by version, address and SHA-256 in `versions.json`:",
        "",
        *_table(
            ("name", "version", "how", "why"),
            (
                (f"`{name}`", a["version"], kinds[a["architecture"]], a["why"])
                for name, a in contents.versions["artifacts"].items()
            ),
        ),
        f"Installed for compiling and removed again: {building}.",
        "",
    ]


def _units(contents: Contents) -> list[str]:
    ours = {unit.name for unit in contents.units}
    others = ", ".join(f"`{name}`" for name in contents.enabled if name not in ours)
    return [
        "## Units",
        "",
        *_table(
            ("unit", "state in a built image", "starts", "runs as", "what it does"),
            (
                (f"`{unit.name}`", contents.state(unit.name), unit.starts, unit.user, unit.purpose)
                for unit in contents.units
            ),
        ),
        f"Enabled too, from packages: {others}.",
        "",
    ]


def _users(contents: Contents, built: Extract) -> list[str]:
    return [
        "## Users",
        "",
        "Their numbers, and those of the groups of the same names, are fixed: files on the data volume carry them.",
        "",
        *_table(
            ("user", "number", "for", "home", "uid:gid and shell in a built image"),
            (
                (
                    f"`{user.name}`",
                    user.number,
                    user.comment,
                    f"`{user.home}`",
                    built.users.get(user.name, _NOT_BUILT),
                )
                for user in contents.users
            ),
        ),
    ]


def _ports(contents: Contents, built: Extract) -> list[str]:
    postgresql, redis, api = (
        contents.settings[name] for name in ("postgresql.conf", "redis.conf", "config.env.template")
    )
    try:
        rows = [
            ("zmanim API", f"{api['host']}:{api['port']}", "TCP; the only port that others are meant to reach"),
            ("Redis", f"{redis['bind']}:{redis['port']}", f"TCP, and `{redis['unixsocket']}`"),
            (
                "PostgreSQL",
                postgresql["listen_addresses"] or "no port",
                f"only the socket in `{postgresql['unix_socket_directories']}`",
            ),
        ]
    except KeyError as missing:
        raise Error(
            "a service's address is not where it was",
            code="contents-unreadable",
            expected=f"the setting {missing} in postgresql.conf, redis.conf or config.env.template",
            found="no such line",
        ) from None
    return [
        "## Ports",
        "",
        *_table(("who", "listens on", ""), rows),
        "sshd listens on 22: keys only, and never root (`zmanim-sshd.conf`). Security groups decide who reaches it.",
        "",
        f"Before any service of ours has started, a built image listens on: {'; '.join(built.listening)}.",
        "",
    ]


def _instance_paths(root: Path) -> list[str]:
    for each in _INSTANCE_PATHS:
        if each.words not in (root / PACKER_DIRECTORY / each.file).read_text():
            raise Error(
                f"{each.path} is not where it was",
                code="contents-unreadable",
                expected=f"the words {each.words!r} in {each.file}",
                found="they are not there",
                fix="correct _INSTANCE_PATHS in zmanim_ami/pipeline/docs/page.py",
            )
    return ["## Places", "", *_table(("path", "what"), ((f"`{each.path}`", each.what) for each in _INSTANCE_PATHS))]


def _files(root: Path, contents: Contents) -> list[str]:
    units = {unit.name for unit in contents.units}
    shipped = [(each, tree.purpose(root, FILES / each.source)) for each in contents.placed if each.source not in units]
    program, rest = (
        [(each, purpose) for each, purpose in shipped if each.source.startswith("zmanim_host/") == inside]
        for inside in (True, False)
    )
    return [
        "## Files of ours",
        "",
        "Each with the first sentence of what it says of itself. Units are in `/etc/systemd/system/`, mode 0644.",
        "Sources: `infrastructure/packer/files/`.",
        "",
        *_table(("path", "mode", "purpose"), ((f"`{each.destination}`", each.mode, purpose) for each, purpose in rest)),
        "`/opt/zmanim/zmanim_host/` (Python, standard library only) is everything that has rules:",
        "",
        *_table(("module", "purpose"), ((f"`{each.source.partition('/')[2]}`", purpose) for each, purpose in program)),
    ]


def _other_files(built: Extract) -> list[str]:
    return [
        "What else of ours a built image has, from a release, a download, or as a link:",
        "",
        *_table(
            ("path", "mode and owner, or target"), ((f"`{path}`", f"`{about}`") for path, about in built.files.items())
        ),
    ]


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> list[str]:
    cells = (" | ".join(cell.replace("|", "\\|") for cell in row) for row in rows)
    return [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}", *(f"| {row} |" for row in cells), ""]
