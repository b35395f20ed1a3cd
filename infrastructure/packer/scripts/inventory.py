"""Prints what is in the image as JSON: the same image gives the same bytes."""

from __future__ import annotations

import hashlib
import json
import os
import stat
import subprocess
from pathlib import Path
from typing import Any

from zmanim_host.release.bundle import build_info

RESTIC, API = Path("/usr/local/bin/restic"), Path("/opt/zmanim/baked/zmanim-api")


def lines(*command: str) -> list[str]:
    """Return what a program prints, line by line; CalledProcessError when it fails."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()


def packages() -> dict[str, str]:
    """Return version-release.architecture of every package by its name."""
    pairs = (
        line.split(" ", 1) for line in lines("rpm", "-qa", "--queryformat", "%{NAME} %{VERSION}-%{RELEASE}.%{ARCH}\n")
    )
    return dict(sorted((name, version) for name, version in pairs))


def rpms() -> list[dict[str, Any]]:
    """Return all that rpm says of every package, of several of one name as well; keys that rpm trusts are none.

    `repository` is amazonlinux where Amazon's own offers just this package, else empty.
    """
    names = ("name", "epoch", "version", "release", "arch", "source", "license")
    tags = ("NAME", "EPOCHNUM", "VERSION", "RELEASE", "ARCH", "SOURCERPM", "LICENSE")
    form = "\t".join(f"%{{{tag}}}" for tag in tags)
    core = set(Path(os.environ["STAGING"], "output", "core.txt").read_text("utf-8").splitlines())
    fields = [line.split("\t") for line in lines("rpm", "-qa", "--queryformat", f"{form}\n")]
    return [
        {
            **{name: row[number] for number, name in enumerate(names)},
            "repository": "amazonlinux" if " ".join(row[:5]) in core else "",
        }
        for row in sorted(fields)
        if row[0] != "gpg-pubkey"
    ]


def go_programs() -> dict[str, dict[str, Any]]:
    """Return of which modules each of our Go programs says that it is made, by its path."""
    programs = {str(path): build_info(path.read_bytes()) for path in (RESTIC, API.resolve())}
    return {
        path: {"go": info.go, "package": info.package, "modules": dict(sorted(info.modules.items()))}
        for path, info in programs.items()
    }


def ours() -> list[Path]:
    """Return where files of ours are: what install.tsv lists, but for what the build makes (fields of its own)."""
    table = Path(os.environ["STAGING"], "files", "install.tsv").read_text("utf-8")
    rows = [line.split("\t") for line in table.splitlines()[1:]]
    places = {Path(destination) for _, source, destination, _, _ in rows if not source.startswith("build:")}
    return sorted(place for place in places if not places.intersection(place.parents))


def files() -> dict[str, dict[str, Any]]:
    """Return mode, owner and SHA-256 (or target) of every file of ours."""
    found: dict[str, dict[str, Any]] = {}
    # PostgreSQL's programs, where scripts/configure-postgres.sh had to link them.
    links = [path for path in Path("/usr/bin").iterdir() if path.is_symlink()]
    links = [path for path in links if path.readlink().match("/usr/pgsql-*/bin/*")]
    for place in [*ours(), *sorted(links)]:
        for path in sorted(place.rglob("*")) if place.is_dir() else [place]:
            about = path.lstat()
            if stat.S_ISLNK(about.st_mode):
                found[str(path)] = {"link": str(path.readlink())}
            elif stat.S_ISREG(about.st_mode):
                digest = hashlib.sha256(path.read_bytes()).hexdigest()
                owner = f"{about.st_uid}:{about.st_gid}"
                found[str(path)] = {"mode": f"{stat.S_IMODE(about.st_mode):04o}", "owner": owner, "sha256": digest}
    return found


def units() -> dict[str, str]:
    """Return every unit file's state by its name."""
    output = lines("systemctl", "list-unit-files", "--no-legend", "--no-pager", "--plain")
    return dict(sorted((fields[0], fields[1]) for fields in map(str.split, output) if len(fields) >= 2))


def users() -> dict[str, str]:
    """Return uid:gid and shell of every user by name."""
    rows = (line.split(":") for line in Path("/etc/passwd").read_text("utf-8").splitlines())
    return {row[0]: f"{row[2]}:{row[3]} {row[6]}" for row in sorted(rows)}


def listening() -> list[str]:
    """Return protocol, address and port of every listening socket, on the builder after everything was installed."""
    output = lines("ss", "--no-header", "--listening", "--numeric", "--tcp", "--udp")
    return sorted({f"{fields[0]} {fields[4]}" for fields in map(str.split, output)})


def main() -> None:
    """Print the inventory."""
    os_release = dict(
        line.split("=", 1) for line in Path("/etc/os-release").read_text("utf-8").splitlines() if "=" in line
    )
    inventory = {
        "os": {
            name: os_release.get(name, "").strip('"') for name in ("NAME", "VERSION", "PRETTY_NAME", "ID", "VERSION_ID")
        },
        "versions": json.loads(Path("/usr/share/zmanim/versions.json").read_text("utf-8")),
        "postgresql_repo": os.environ["POSTGRESQL_REPO"],
        "release": json.loads(Path("/opt/zmanim/baked/manifest.json").read_text("utf-8")),
        "packages": packages(),
        "rpms": rpms(),
        "go": go_programs(),
        "users": users(),
        "units": units(),
        "listening_on_the_builder": listening(),
        "files": files(),
    }
    print(json.dumps(inventory, indent=1))


if __name__ == "__main__":
    main()
