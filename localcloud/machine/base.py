"""Preparing a root file system tree to be a base image of the local cloud.

What makes Amazon Linux an EC2 guest is mostly cloud-init's configuration and drivers; what makes a tree a guest *here*
is this: trust in the cloud's authority, the Ec2 data source, DHCP on ens5. Nothing of it names an endpoint.
"""

from __future__ import annotations

import pwd
from collections.abc import Collection
from pathlib import Path

from localcloud.machine import tree
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
# Nor does it look for interfaces that come later: that takes udev.
updates: {network: {when: [boot-new-instance]}}
# A user of the host with the login user's id could enter its processes, and it may become root.
system_info: {default_user: {uid: %d}}
"""
# Ids that useradd gives nobody on a host that hands them out one by one, and that are people's to systemd (to 60000).
_LOGIN_IDS = range(48000, 60000)
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


def login_id(taken: Collection[int]) -> int:
    """Return an id for machines' login user that no user of this host has (`taken`)."""
    return next(each for each in _LOGIN_IDS if each not in taken)


def fit(root: Path, certificate_pem: bytes) -> None:
    """Prepare the tree `root` in place; doing it again, with another certificate too, is harmless.

    Nothing outside of it is written, whatever links and devices it holds.

    Raises OSError when the tree can't be written to.
    """
    _trust(root, certificate_pem)
    login = login_id({user.pw_uid for user in pwd.getpwall()})
    _write(root, "etc/cloud/cloud.cfg.d/99-localcloud.cfg", _CLOUD_INIT % login)
    _write(root, "etc/systemd/network/20-localcloud-ens5.network", _NETWORK)
    _enable(root, "systemd-networkd.service", "multi-user.target")
    _resolve(root)


def _trust(root: Path, certificate_pem: bytes) -> None:
    for directory in _ANCHORS:
        if tree.inside(root, directory).is_dir():
            tree.write(root, f"{directory}/{_NAME}", certificate_pem)
    # Appended by hand as well: nothing of the tree needs to be run for it (it may be another architecture's).
    seen: set[Path] = set()
    for bundle in _BUNDLES:
        content, path = tree.read(root, bundle), tree.inside(root, bundle)
        if content is None or path in seen:
            continue
        seen.add(path)
        before, _, rest = content.partition(_BEGIN)
        after = rest.partition(_END)[2]
        ending = b"" if before.endswith(b"\n") or not before else b"\n"
        tree.write(root, bundle, before + ending + _BEGIN + certificate_pem.rstrip() + b"\n" + _END + after)


def _resolve(root: Path) -> None:
    """Point the tree at EC2's link-local name server."""
    if tree.inside(root, "usr/lib/systemd/system/systemd-resolved.service").exists():
        _write(root, "etc/systemd/resolved.conf.d/20-localcloud.conf", _RESOLVED)
    configuration = tree.inside(root, "etc") / "resolv.conf"
    if configuration.is_symlink() and "systemd/resolve" in str(configuration.readlink()):
        return  # resolved's own file
    configuration.unlink(missing_ok=True)
    _write(root, "etc/resolv.conf", f"nameserver {RESOLVER}\n")


def _enable(root: Path, unit: str, target: str) -> None:
    unit_file = f"usr/lib/systemd/system/{unit}"
    if not tree.inside(root, unit_file).exists():
        return  # the image configures its interface in its own way
    wants = tree.inside(root, f"etc/systemd/system/{target}.wants")
    wants.mkdir(parents=True, exist_ok=True)
    link = wants / unit
    if not link.is_symlink():
        link.symlink_to(f"/{unit_file}")


def _write(root: Path, relative: str, text: str) -> None:
    tree.write(root, relative, text.encode())
