"""Who may knock at a builder: the address that this machine has on the way there, and no other.

Packer's own option asks one fixed address on the internet, which a network without it can't answer.
"""

from __future__ import annotations

import ipaddress
import re
import urllib.error
import urllib.request

from support.errors import Error

# What an answer is looked for in: an address and a line's end are far shorter.
_LONGEST = 64
_SECONDS = 10


def cidr(source: str) -> str:
    """Return the range of the setting ssh_source: as it stands, or the address that its URL answers with, as a /32.

    Raises `address-unknown`: without an answer nobody is let in, least of all everybody.
    """
    if not re.match(r"https?://", source):
        return source
    try:
        with urllib.request.urlopen(source, timeout=_SECONDS) as response:  # noqa: S310 - http and https alone, see above
            found = response.read(_LONGEST).decode("ascii", "replace").strip()
        address = ipaddress.IPv4Address(found)
    except (OSError, ValueError) as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()  # it holds the connection
        raise _unknown(source, str(error)) from error
    if address.is_unspecified or address.is_multicast or address.is_loopback:
        raise _unknown(source, found)
    return f"{address}/32"


def _unknown(source: str, found: str) -> Error:
    return Error(
        "nobody says from which address this machine reaches a builder",
        code="address-unknown",
        expected=f"this machine's IPv4 address as the answer of {source} (setting ssh_source)",
        found=found or "an empty answer",
        fix="set ssh_source to another URL that answers so, or to the range itself, such as 203.0.113.7/32",
    )
