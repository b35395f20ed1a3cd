"""An inventory as a build writes it, small: what of each kind is in it."""

from __future__ import annotations

import copy
from typing import Any

RESTIC, API = "/usr/local/bin/restic", "/opt/zmanim/releases/v1.2.3/zmanim-api"
HOST = "/opt/zmanim/zmanim_host/host.py"
_SOURCE = {"version": "7.2.16", "url": "https://example.org/redis-7.2.16.tar.gz", "architecture": "source"}
_RESTIC = {"version": "0.19.1", "url": "https://example.org/restic_0.19.1.bz2", "architecture": "aarch64"}


def rpm(name: str, version: str, release: str = "1.amzn2023", epoch: str = "0", **more: str) -> dict[str, str]:
    """A package, as the inventory's `rpms` has it."""
    source = f"{name}-{version}-{release}.src.rpm"
    core = {"repository": "amazonlinux"}
    row = {"name": name, "epoch": epoch, "version": version, "release": release, "arch": "aarch64"}
    return {**row, "source": source, "license": "MIT", **core, **more}


def _file(digit: str) -> dict[str, str]:
    return {"mode": "0755", "owner": "0:0", "sha256": digit * 64}


_INVENTORY: dict[str, Any] = {
    "os": {
        "NAME": "Amazon Linux",
        "VERSION": "2023",
        "PRETTY_NAME": "Amazon Linux 2023.12",
        "ID": "amzn",
        "VERSION_ID": "2023",
    },
    "versions": {"artifacts": {"redis": {**_SOURCE, "sha256": "a" * 64}, "restic": {**_RESTIC, "sha256": "b" * 64}}},
    "postgresql_repo": "amazonlinux",
    "release": {"version": "v1.2.3", "commit": "c0ffee" + "0" * 34},
    "packages": {"openssl": "3.0.8-1.amzn2023.aarch64", "redis": "7.2.16-1.0123456789ab.aarch64"},
    "rpms": [
        rpm("kernel6.12", "6.12.1"),
        rpm("kernel6.12", "6.12.2"),
        rpm("openssl", "3.0.8", epoch="1", license="Apache-2.0 and (BSD or OpenSSL)"),
        rpm("redis", "7.2.16", "1.0123456789ab", source="redis-7.2.16.src.rpm", repository=""),
    ],
    "go": {
        RESTIC: {
            "go": "go1.25.8",
            "package": "github.com/restic/restic/cmd/restic",
            "modules": {"github.com/restic/restic": "v0.19.1", "golang.org/x/sync": "v0.17.0"},
        },
        API: {
            "go": "go1.26.8",
            "package": "zmanim/api/cmd/api",
            "modules": {"github.com/jackc/pgx/v5": "v5.8.0", "golang.org/x/sync": "v0.17.0"},
        },
    },
    "users": {"zmanim": "402:402 /sbin/nologin"},
    "units": {"zmanim-api.service": "enabled"},
    "listening_on_the_builder": ["tcp 0.0.0.0:22"],
    "files": {
        API: _file("d"),
        HOST: _file("e"),
        "/opt/zmanim/zmanim_host/__pycache__/host.cpython-39.pyc": _file("f"),
        "/opt/zmanim/current": {"link": "releases/current"},
        RESTIC: _file("9"),
    },
}


def inventory(**changes: Any) -> dict[str, Any]:
    """One of v1.2.3, with some of its parts another."""
    return {**copy.deepcopy(_INVENTORY), **changes}
