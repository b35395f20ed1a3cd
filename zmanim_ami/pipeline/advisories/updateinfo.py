"""The advisories of a repository of RPMs: updateinfo.xml, as createrepo_c has it and dnf reads it."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import defusedxml.ElementTree
from defusedxml.common import DefusedXmlException

from support import https
from support.errors import Error

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

SEVERITIES = ("critical", "important", "medium", "low", "unknown")
_ALIASES = {"moderate": "medium"}
_REPOMD = "{http://linux.duke.edu/metadata/repo}"
# Amazon's has some megabytes; unpacked it is twenty times as large.
_MOST = 100 << 20
_SECONDS = 60


@dataclass(frozen=True)
class Advisory:
    """A security advisory: `severity` is one of SEVERITIES, `fixes` the packages that mend it.

    Each of these has name, epoch, version, release and arch, as an inventory's `rpms` have them.
    """

    id: str
    severity: str
    fixes: tuple[Mapping[str, str], ...]


class Rated(Protocol):
    """What has an id and one of SEVERITIES."""

    @property
    def id(self) -> str: ...  # noqa: D102

    @property
    def severity(self) -> str: ...  # noqa: D102


def severest_first(each: Rated) -> tuple[int, str]:
    """Return the key that sorts the severest first, and by id."""
    return SEVERITIES.index(each.severity), each.id


def parse(packed: bytes) -> tuple[Advisory, ...]:
    """Return the security advisories of an updateinfo.xml.gz. Raises `advisories-unreadable`, also when it has none."""
    try:
        root = defusedxml.ElementTree.fromstring(gzip.decompress(packed))
        found = tuple(_advisories(root))
    except (OSError, EOFError, zlib.error, SyntaxError, ValueError, KeyError, DefusedXmlException) as error:
        raise unreadable("updateinfo.xml.gz", repr(error)) from error
    if root.tag != "updates" or not found:
        raise unreadable("updateinfo.xml.gz", f"<{root.tag}> with {len(found)} security advisories")
    return found


def fetch(mirror_list: str, get: Callable[[str], bytes] | None = None) -> bytes:
    """Return the updateinfo.xml.gz of the repository that a list of mirrors names, checked against its metadata.

    `get` reads an address. Raises `advisories-unreadable`.
    """
    get = get or _get
    try:
        base = get(mirror_list).decode().split()[0].rstrip("/")
        repomd = defusedxml.ElementTree.fromstring(get(f"{base}/repodata/repomd.xml"))
        (data,) = (each for each in repomd.iter(f"{_REPOMD}data") if each.get("type") == "updateinfo")
        location, checksum = data.find(f"{_REPOMD}location"), data.find(f"{_REPOMD}checksum")
        if location is None or checksum is None or checksum.get("type") != "sha256":
            raise ValueError("repomd.xml gives no place or no SHA-256 of updateinfo")
        packed = get(f"{base}/{location.get('href', '')}")
    except (OSError, ValueError, IndexError, SyntaxError, DefusedXmlException) as error:
        raise unreadable(mirror_list, repr(error)) from error
    digest = hashlib.sha256(packed).hexdigest()
    if digest != checksum.text:
        raise unreadable(mirror_list, f"updateinfo with the SHA-256 {digest}, and repomd.xml says {checksum.text}")
    return packed


def unreadable(what: str, found: str) -> Error:
    """Return the error for advisories that can't be had: nobody knows then how many there are."""
    return Error(
        f"the advisories can't be read: {what}",
        code="advisories-unreadable",
        expected="the updateinfo.xml.gz of a repository, with security advisories",
        found=found[:500],
        fix="is the network there, and the setting advisories_url right? What is not known is not none",
    )


def _advisories(root: Element) -> Iterator[Advisory]:
    for update in root.iter("update"):
        if update.get("type") != "security":
            continue
        severity = (update.findtext("severity") or "").strip().lower()
        severity = _ALIASES.get(severity, severity)
        fixes = tuple(
            {name: package.get(name, "") if name == "epoch" else package.attrib[name] for name in _FIELDS}
            for package in update.iter("package")
        )
        identity = (update.findtext("id") or "").strip()
        if not identity or not fixes:
            raise ValueError(f"an advisory without an id or without packages: {identity!r}")
        yield Advisory(identity, severity if severity in SEVERITIES else "unknown", fixes)


_FIELDS = ("name", "epoch", "version", "release", "arch")


def _get(url: str) -> bytes:
    return https.read(url, _SECONDS, _MOST)
