"""A repository's advisories as XML, and the repository around them."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Mapping
from xml.sax.saxutils import quoteattr

MIRRORS = "https://mirrors.example/latest/mirror.list"
_BASE = "https://mirrors.example/guids"


def update(identity: str, severity: str, *fixes: Mapping[str, str], kind: str = "security") -> str:
    """One advisory, mended by packages as an inventory has them."""
    packages = "".join(
        "<package "
        + " ".join(f"{name}={quoteattr(each[name])}" for name in ("name", "epoch", "version", "release", "arch"))
        + "/>"
        for each in fixes
    )
    return (
        f'<update type="{kind}"><id>{identity}</id><severity>{severity}</severity>'
        f"<pkglist><collection>{packages}</collection></pkglist></update>"
    )


def packed(*updates: str) -> bytes:
    """An updateinfo.xml.gz."""
    return gzip.compress(f"<?xml version='1.0'?><updates>{''.join(updates)}</updates>".encode(), mtime=0)


def repository(content: bytes, checksum: str = "", release: str = "latest") -> dict[str, bytes]:
    """What lies at which address of a release's repository with this updateinfo.xml.gz."""
    base = f"{_BASE}/{release}"
    digest = checksum or hashlib.sha256(content).hexdigest()
    repomd = (
        '<repomd xmlns="http://linux.duke.edu/metadata/repo"><data type="updateinfo">'
        f'<checksum type="sha256">{digest}</checksum><location href="repodata/u.xml.gz"/></data></repomd>'
    )
    return {
        MIRRORS.replace("latest", release): f"{base}/\nhttps://other.example/\n".encode(),
        f"{base}/repodata/repomd.xml": repomd.encode(),
        f"{base}/repodata/u.xml.gz": content,
    }
