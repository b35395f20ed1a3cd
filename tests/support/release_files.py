"""What the tests of releases share: keys, signed pointers, and bundles with a program that looks like the API's."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import struct
import tarfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from zmanim_host.release.adopt import Channel, Machine, adopt
from zmanim_host.release.store import Status, Store

NOW = 1_800_000_000.0
LATER = "2027-06-01T00:00:00Z"
BUILD = {"GOOS": "linux", "GOARCH": "arm64", "CGO_ENABLED": "0"}
KEY, OTHER_KEY = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())


def write_key(directory: Path, environment: str = "prod", key: ec.EllipticCurvePrivateKey = KEY) -> Path:
    """Write a public key as an image has it; return its directory."""
    form = (serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    directory.mkdir(exist_ok=True)
    (directory / f"{environment}.pem").write_bytes(key.public_key().public_bytes(*form))
    return directory


def payload(**changes: Any) -> dict[str, Any]:
    """What a pointer says; a change to None takes the field away."""
    values = {
        "format": 1, "environment": "prod", "serial": 7, "expires": LATER, "version": "v1.2.3", "sha256": "ab" * 32,
        "size": 1000, "architecture": "aarch64", "oldest_allowed": "v0.0.0", "rollback": False, **changes,
    }  # fmt: skip
    return {name: value for name, value in values.items() if value is not None}


def envelope(values: dict[str, Any], key: ec.EllipticCurvePrivateKey = KEY) -> bytes:
    """A pointer as it lies in the channel."""
    encoded = json.dumps(values).encode()
    parts = {"payload": encoded, "signature": key.sign(encoded, ec.ECDSA(hashes.SHA256()))}
    return json.dumps({name: base64.b64encode(part).decode() for name, part in parts.items()}).encode()


def program(machine: int = 183, package: str = "zmanim/api/cmd/api", **build: str) -> bytes:
    """An ELF header and Go's build information, as a program has them."""
    header = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 2, machine) + bytes(44)
    lines = [f"path\t{package}", *(f"build\t{name}={value}" for name, value in {**BUILD, **build}.items())]
    text = b"0" * 16 + "\n".join(lines).encode() + b"\n" + b"1" * 16
    strings = b"".join(_varint(len(part)) + part for part in (b"go1.26.8", text))
    return header.ljust(128, b"\0") + b"\xff Go buildinf:\x08\x02".ljust(32, b"\0") + strings


def _varint(number: int) -> bytes:
    values = b""
    while number > 0x7F:
        values, number = values + bytes([number & 0x7F | 0x80]), number >> 7
    return values + bytes([number])


def packed(files: dict[str, bytes]) -> bytes:
    """A bundle with just these files."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, part in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(part)
            tar.addfile(member, io.BytesIO(part))
    return gzip.compress(content.getvalue())


def files(
    version: str = "v1.2.3", content: bytes = b"", sql: bytes = b"SELECT 1;\n", **manifest: Any
) -> dict[str, bytes]:
    """The files of a release's bundle."""
    made = content or program()
    values = {
        "version": version, "architecture": "aarch64", "sha256": hashlib.sha256(made).hexdigest(),
        "migrations": [{"name": "20260101000000_one.sql", "sha256": hashlib.sha256(sql).hexdigest()}], **manifest,
    }  # fmt: skip
    return {
        "manifest.json": json.dumps(values).encode(),
        "migrations/20260101000000_one.sql": sql,
        "zmanim-api": made,
    }


@dataclass
class Site:
    """A machine's releases in a directory: the image's own, a channel, and what was fetched of it."""

    store: Store
    fetched: Path
    keys: Path

    @property
    def running(self) -> str:
        """The version that the API would start from."""
        return (self.store.releases / "current").resolve().name

    def channel(self, bundle: bytes, key: ec.EllipticCurvePrivateKey = KEY, **changes: Any) -> None:
        """Leave what a fetcher would that believes everything."""
        about = {"sha256": hashlib.sha256(bundle).hexdigest(), "size": len(bundle), **changes}
        (self.fetched / "pointer.json").write_bytes(envelope(payload(**about), key))
        (self.fetched / "bundle").write_bytes(bundle)


def site(directory: Path, baked: str = "v1.0.0") -> Site:
    """Make a machine whose image came with `baked`."""
    store = Store(
        directory / "releases",
        directory / "baked",
        directory / "data",
        directory / "status.json",
        lambda path: True,
        directory / "notices",
    )
    for folder in (store.releases, store.data, store.notices, directory / "fetched"):
        folder.mkdir()
    folder = store.releases / baked
    (folder / "migrations").mkdir(parents=True)
    for name, content in files(baked).items():
        (folder / name).write_bytes(content)
    (folder / "zmanim-api").chmod(0o755)
    store.baked_link.symlink_to(f"releases/{baked}")
    (store.releases / "current").symlink_to(baked)
    return Site(store, directory / "fetched", write_key(directory / "keys"))


def start(machine: Site, *, restarts: int = 0, database: bool = True, environment: str = "prod") -> Status:
    """What happens before a start of the API."""
    around = Machine(lambda: restarts, lambda: database, lambda: NOW)
    return adopt(machine.store, Channel(environment, machine.fetched, machine.keys), around)


def proven(machine: Site) -> None:
    """Let the release in force be the last good one."""
    running = machine.store.linked("current")
    assert running is not None
    machine.store.point("last-good", running)
    machine.store.save(replace(machine.store.load(), probation=None))
