"""Reports as verify-ami and rehearse write them, below a folder of a test's own: what an evidence page is made from."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

AMI = "ami-0123456789abcdef0"
VERSION = "v1.2.3"
_SHA = "6dc9d298d866ae0b55bdadbebad2fc1b5e35482d4b7d2c14ec12c611db1fa660"


def _check(name: str, found: str, expected: str = "ok") -> dict[str, object]:
    return {"name": name, "ok": True, "expected": expected, "found": found}


def _ready(name: str, detail: str = "") -> dict[str, object]:
    found = json.dumps({"ok": True, "required": True, "detail": detail})
    return _check(f"ready: {name}", found, "ok, or not required")


def chart(units: int = 70) -> str:
    """A chart of a boot, as systemd-analyze plot draws it."""
    bars = "".join(
        f'  <rect class="activating" x="{20 + 9 * n:.3f}" y="{20 * n:.3f}" width="{30 + n:.3f}" height="19.000" />\n'
        f'  <text class="left" x="{25 + 9 * n:.3f}" y="{20 * n + 14:.3f}">unit-{n}.service ({n / 10:.3f}s)</text>\n'
        for n in range(units)
    )
    size = f'width="1180px" height="{units * 20 + 150}px" version="1.1" xmlns="http://www.w3.org/2000/svg"'
    return (
        f'<?xml version="1.0" standalone="no"?>\n<svg {size}>\n'
        '<defs>\n  <style type="text/css">\n    rect.background { fill: rgb(255,255,255); }\n'
        "    rect.activating { fill: rgb(255,0,0); fill-opacity: 0.7; }\n    text { font-family: Verdana; }\n"
        '  </style>\n</defs>\n<rect class="background" width="100%" height="100%" />\n'
        '<text x="20" y="50">Amazon Linux 2023 ip-10-0-0-7</text>\n'
        f'<g transform="translate(20.000,100)">\n{bars}</g>\n</svg>\n'
    )


REPORT: Mapping[str, Any] = {
    "ami_id": AMI,
    "version": VERSION,
    "commit": "bce79207e0a0f1c3d5b7a9e8d6c4b2a190807060",
    "tree_digest": "7d" * 32,
    "ok": True,
    "at": "2026-11-30T22:14:07+00:00",
    "instance_type": "m7g.medium",
    "boot": {"running_seconds": 2.7, "healthy_seconds": 8.9},
    "checks": [
        _check("ready: version", VERSION, VERSION),
        *(_ready(name) for name in ("api", "base-units", "extensions", "mail", "units")),
        _ready("timers", "restic-backup.timer, backup-drill.timer, zmanim-metrics.timer"),
        _ready("postgresql", "17.12"),
        _ready("postgis", "3.5.2"),
        _ready("redis", "7.2.16"),
        _check("ready: ok", "true", "true"),
        _check("ready: in time", "8.8 s after it", "within 60 s of its kernel's start (the setting ready_seconds)"),
        _check("version in the image", VERSION, VERSION),
        _check("release in use", f"/opt/zmanim/releases/{VERSION}", f"/opt/zmanim/releases/{VERSION}"),
        _check("API runs", "PID 812", "a main process of zmanim-api.service"),
        _check("running program", _SHA, f"the main process is made of the image's binary ({_SHA})"),
        _check("ready: binary_sha256", _SHA, _SHA),
        _check("GET /health", "200", "200"),
        _check("/health: status", "ok"),
        _check("/health: database", "ok"),
        _check("its own /etc/machine-id", "made 1764400000, booted 1764400000", "made since this instance booted"),
        _check("its own identity", "all of it", "all of it"),
        _check("listening", "tcp *:8080, tcp 0.0.0.0:22", "tcp 22, tcp 8080, and no others from outside"),
        _check("reboot", "ready 6.2 s after its kernel's start", "ready again, with 1000 rows"),
        _check("backup", "made, beside the reboot: 48213 bytes in 4 s", "a backup"),
        _check("swap", "ready 5.9 s after its kernel's start", "ready with the first one's volume, and 1000 rows"),
        _check("restore", "1019 rows and 3 keys in 4.5 s", "the backup on another machine: 1000 rows"),
    ],
    "ready": {},
    "health": {},
    "versions": {"kernel": "6.12.9", "os": "Amazon Linux 2023.12", "postgresql": "postgres (PostgreSQL) 17.12"},
    "packages": {"bash": "5.2.15-1.amzn2023.aarch64", "redis": "7.2.16-1.aarch64"},
    "steps": [
        {"name": "first boot", "at": 0.0, "seconds": 8.9, "ok": True},
        {"name": "inspection", "at": 9.0, "seconds": 1.2, "ok": True},
        {"name": "reboot", "at": 10.3, "seconds": 11.4, "ok": True},
        {"name": "backup", "at": 10.4, "seconds": 11.8, "ok": True},
        {"name": "swap", "at": 22.5, "seconds": 14.2, "ok": True},
        {"name": "restore", "at": 22.4, "seconds": 16.0, "ok": True},
    ],
    "backup": {"run": "20261124T030212Z-0a1b2c", "bytes": 48213, "seconds": 4},
    "restore": {"run": "20261124T030212Z-0a1b2c", "seconds": 4.5, "age": 9.0, "rows": 1019, "keys": 3},
    "facts": {
        "time": "Startup finished in 812ms (kernel) + 5.071s (userspace) = 5.883s",
        "blame": [{"unit": f"unit-{n}.service", "seconds": round(3 / (n + 1), 3)} for n in range(20)],
        "chain": "zmanim-ready.service @6.1s\n└─zmanim-serving.service @5.9s +102ms",
        "exposure": [
            {"unit": f"unit-{n}.service", "exposure": round(9.6 - n / 6, 1), "word": "UNSAFE" if n < 4 else "OK"}
            for n in range(50)
        ],
        "postgresql": [
            {"name": f"setting_{n}", "value": f"{n}MB", "source": "/etc/postgresql.conf"} for n in range(34)
        ],
        "redis": [{"name": "maxmemory", "value": "1gb", "source": "redis.conf"}],
        "connections": [{"program": "amazon-ssm-agen", "from": "10.0.0.7:40000", "to": "10.0.0.2:443"}],
        "chart": chart(),
        "notes": [],
    },
}
ACCOUNT: Mapping[str, Any] = {
    "where": "AWS account 123456789012, eu-west-1",
    "components": [
        *(
            {"kind": "RPM", "name": f"package-{n}", "version": f"1.{n}-3.amzn2023", "licence": "MIT AND BSD-3-Clause"}
            for n in range(420)
        ),
        *({"kind": "Go", "name": f"example.org/module/{n}", "version": f"v0.{n}.0", "licence": ""} for n in range(96)),
    ],
    "sbom_sha256": "5b" * 32,
    "advisories": "0 critical, 1 important, 0 medium, 0 low; 9 not covered (2026-11-30)",
    "diff": {
        "before": "v1.2.2",
        "after": VERSION,
        "unknown": [],
        "changes": [
            {"kind": "package", "name": "openssl", "before": "3.0.8-1.amzn2023", "after": "3.2.2-1.amzn2023"},
            {"kind": "unit", "name": "zmanim-power-off.service", "before": "", "after": "enabled"},
            {
                "kind": "configuration",
                "name": "/etc/zmanim/redis.conf",
                "before": "0644 0:0 aaaa",
                "after": "0644 0:0 bbbb",
            },
        ],
    },
    "unknown": [],
}
REHEARSAL: Mapping[str, Any] = {
    "version": VERSION,
    "ok": True,
    "ami_id": AMI,
    "source_ami": "ami-27ebe44ec23621e44",
    "tree_digest": "7d" * 32,
    "base": None,
    "machines": {"kind": "nspawn", "accelerator": ""},
    "relaxed": [],
    "programs": "aarch64",
    "published": {"/zmanim/prod/ami-id": AMI, "/zmanim/prod/ami-version": VERSION},
    "parameter_versions": {"/zmanim/prod/ami-id": 1, "/zmanim/prod/ami-version": 1},
    "steps": [
        {"name": "host", "seconds": 0.1, "ok": True},
        {"name": "prepare", "seconds": 0.2, "ok": True},
        {"name": "cloud.up", "seconds": 3.8, "ok": True},
        {"name": "build-ami", "seconds": 55.4, "ok": True},
        {"name": "verify-ami", "seconds": 41.9, "ok": True},
        {"name": "publish-ssm", "seconds": 2.3, "ok": True},
        {"name": "cloud.down", "seconds": 0.6, "ok": True},
    ],
    "differences": [{"name": "redis", "production": "7.2.16", "rehearsed": "7.0.15"}],
    "fetched": None,
    "bad_day": None,
    "error": "",
}


def report() -> dict[str, Any]:
    """A report of a verification that passed, for a test to change."""
    return copy.deepcopy(dict(REPORT))


def account() -> dict[str, Any]:
    """What an account says of that image."""
    return copy.deepcopy(dict(ACCOUNT))


def rehearsal() -> dict[str, Any]:
    """A rehearsal that came to a good end."""
    return copy.deepcopy(dict(REHEARSAL))


def put(
    root: Path,
    verification: object = None,
    said: object = None,
    rehearsed: object = None,
) -> Path:
    """Write these below `root` as the tasks do, the rehearsal last; return `root`."""
    files = {
        f"build/verify/{AMI}.json": verification,
        f"build/verify/account/{AMI}.json": said,
        "build/rehearsal/result.json": rehearsed,
    }
    for number, (name, content) in enumerate(files.items()):
        if content is not None:
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(content))
            os.utime(path, ns=(10**18 + number, 10**18 + number))
    return root
