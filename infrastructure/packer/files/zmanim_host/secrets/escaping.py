"""Secrets into files and addresses, whatever characters they hold.

Each function is the exact inverse of what reads it, and is property-tested against a model of that reader.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from zmanim_host.host import HostError


def environment_line(name: str, value: str) -> str:
    """Return one line of a systemd EnvironmentFile= that gives `name` the value `value`.

    In double quotes systemd takes the characters " \\ ` $ literally after a backslash, and everything else (newlines
    too) as it stands. Raises HostError for what makes systemd take the whole file for damaged.
    """
    if any(_is_no_character(ord(character)) for character in value):
        raise HostError(f"the value of {name} holds NUL or what is no character in Unicode: no environment can have it")
    escaped = "".join("\\" + character if character in '"\\`$' else character for character in value)
    return f'{name}="{escaped}"\n'


def _is_no_character(code: int) -> bool:
    """Return whether systemd refuses a text with this code point (unichar_is_valid), or no C string can hold it."""
    return code == 0 or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE


def url_part(value: str) -> str:
    """Return `value` as a user or password inside an address: everything but unreserved characters is encoded."""
    return quote(value, safe="")


def redis_password_hash(value: str) -> str:
    """Return the password as a Redis ACL file takes it: its SHA-256, which needs no escaping and gives nothing away."""
    return "#" + hashlib.sha256(value.encode("utf-8")).hexdigest()
