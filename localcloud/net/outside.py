"""What machines may reach outside when they may at all: names of the internet, at public addresses."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Sequence

PORTS = (80, 443)
_NAME = re.compile(r"(?:[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?\.)+[a-z](?:[a-z0-9-]{0,61}[a-z0-9])?")
# AWS's services are the cloud's, and so are machines' own names.
_CLOUDS_OWN = ("amazonaws.com", "compute.internal")
_TRANSLATED = ipaddress.IPv6Network("64:ff9b::/96")


class Refused(Exception):
    """It may not be reached; the text says why."""


def packages_name(region: str) -> str:
    """Return the one name below amazonaws.com that is not the cloud's: where Amazon Linux 2023 has its packages.

    A machine image's dnf asks there (a container image's asks cdn.amazonlinux.com). The digits are part of the buckets'
    names in every region.
    """
    return f"al2023-repos-{region}-de612dc2.s3.dualstack.{region}.amazonaws.com"


def check_name(requested: str, region: str) -> str:
    """Return the name as the resolver is asked for it. Raises Refused for addresses and for what is the cloud's own."""
    name = requested.lower().removesuffix(".")
    # The last label begins with a letter, so that no form of an address is a name, 1.2.3.4 and 1.2.3.0x4 among them.
    if len(name) > 253 or not _NAME.fullmatch(name):
        raise Refused("no name of the internet")
    if name != packages_name(region) and any(f".{name}".endswith(f".{own}") for own in _CLOUDS_OWN):
        raise Refused("that name is the local cloud's own")
    return name


def is_this_host(address: str) -> bool:
    """Say whether the address is one of this host's own: only those can be bound to."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((address, 0))
        except OSError:
            return False
    return True


def check_addresses(addresses: Sequence[str], is_own: Callable[[str], bool] = is_this_host) -> Sequence[str]:
    """Return the addresses that a name has, all of them public. Raises Refused when only one of them is not."""
    for address in addresses:
        if not is_public(address):
            raise Refused(f"it leads to {address}, which is not public")
        if is_own(address):
            raise Refused(f"it leads to {address}, which is this host")
    return addresses


def is_public(address: str) -> bool:
    """Say whether anybody on the internet means the same machine by that address."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address):
        # Addresses that hold another one are as public as that is.
        embedded = parsed.ipv4_mapped or parsed.sixtofour or (parsed.teredo and parsed.teredo[1])
        if parsed in _TRANSLATED:
            embedded = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF)
        if embedded:
            return is_public(str(embedded))
        if parsed.is_site_local:
            return False
    return parsed.is_global and not parsed.is_multicast and not parsed.is_reserved
