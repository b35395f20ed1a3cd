"""Preparing a root file system tree to be a base image of the local cloud.

What makes Amazon Linux an EC2 guest is mostly cloud-init's configuration and drivers; what makes a tree a guest *here*
is this: trust in the cloud's authority, the Ec2 data source, DHCP on ens5. Nothing of it names an endpoint.
"""

from __future__ import annotations

import os
from pathlib import Path

from localcloud.net.network import RESOLVER

_CLOUD_INIT = """\
# Made by the local cloud for its base images.
datasource_list: [Ec2]
datasource:
  Ec2:
    metadata_urls: ["http://169.254.169.254"]
    strict_id: false
    max_wait: 30
    timeout: 5
# The interface is systemd-networkd's, by DHCP, as the image has it.
network: {config: disabled}
"""
_NETWORK = """\
# Made by the local cloud for its base images.
[Match]
Name=ens5

[Network]
DHCP=ipv4
LinkLocalAddressing=no
IPv6AcceptRA=no

[DHCPv4]
UseHostname=no
"""
_RESOLVED = f"""\
# Made by the local cloud for its base images.
[Resolve]
# Known before DHCP is: cloud-init looks names up in its first stage. No fallback: there is no other name server.
DNS={RESOLVER}
FallbackDNS=
LLMNR=no
MulticastDNS=no
"""
# Bundles that distributions' TLS libraries read, and the directories from which they are made again.
_BUNDLES = (
    "etc/ssl/certs/ca-certificates.crt",
    "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "etc/pki/tls/certs/ca-bundle.crt",
)
_ANCHORS = (
    "usr/local/share/ca-certificates",
    "etc/pki/ca-trust/source/anchors",
    "usr/share/pki/ca-trust-source/anchors",
)
_NAME = "localcloud-authority.crt"
_BEGIN, _END = b"# localcloud authority begins\n", b"# localcloud authority ends\n"


def fit(root: Path, certificate_pem: bytes) -> None:
    """Prepare the tree `root` in place; doing it again, with another certificate too, is harmless.

    Raises OSError when the tree can't be written to.
    """
    _trust(root, certificate_pem)
    _write(root, "etc/cloud/cloud.cfg.d/99-localcloud.cfg", _CLOUD_INIT)
    _write(root, "etc/systemd/network/20-localcloud-ens5.network", _NETWORK)
    _enable(root, "systemd-networkd.service", "multi-user.target")
    _resolve(root)


def _trust(root: Path, certificate_pem: bytes) -> None:
    for directory in _ANCHORS:
        if (root / directory).is_dir():
            (root / directory / _NAME).write_bytes(certificate_pem)
    # Appended by hand as well: nothing of the tree needs to be run for it (it may be another architecture's).
    seen: set[Path] = set()
    for bundle in _BUNDLES:
        path = _inside(root, bundle)
        if path is None or path in seen or not path.is_file():
            continue
        seen.add(path)
        before, _, rest = path.read_bytes().partition(_BEGIN)
        after = rest.partition(_END)[2]
        ending = b"" if before.endswith(b"\n") or not before else b"\n"
        path.write_bytes(before + ending + _BEGIN + certificate_pem.rstrip() + b"\n" + _END + after)


def _inside(root: Path, relative: str) -> Path | None:
    """Follow links as the guest would: an absolute one begins at the tree's root."""
    path = root / relative
    for _ in range(10):
        if not path.is_symlink():
            return path
        target = path.readlink()
        path = root / target.relative_to("/") if target.is_absolute() else Path(os.path.normpath(path.parent / target))
        if root not in path.parents:
            return None
    return None


def _resolve(root: Path) -> None:
    """Point the tree at EC2's link-local name server."""
    if (root / "usr/lib/systemd/system/systemd-resolved.service").exists():
        _write(root, "etc/systemd/resolved.conf.d/20-localcloud.conf", _RESOLVED)
    configuration = root / "etc/resolv.conf"
    if configuration.is_symlink() and "systemd/resolve" in str(configuration.readlink()):
        return  # resolved's own file
    configuration.unlink(missing_ok=True)
    configuration.write_text(f"nameserver {RESOLVER}\n")


def _enable(root: Path, unit: str, target: str) -> None:
    unit_file = f"usr/lib/systemd/system/{unit}"
    if not (root / unit_file).exists():
        return  # the image configures its interface in its own way
    link = root / "etc/systemd/system" / f"{target}.wants" / unit
    link.parent.mkdir(parents=True, exist_ok=True)
    if not link.is_symlink():
        link.symlink_to(f"/{unit_file}")


def _write(root: Path, relative: str, text: str) -> None:
    path = root / relative
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
