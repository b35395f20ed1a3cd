"""Secrets into files and addresses, whatever characters they hold.

Each function is the exact inverse of what reads it, and is property-tested against a model of that reader.
"""

from __future__ import annotations

import hashlib
from urllib.parse import quote

from zmanim_host.host import HostFault


def environment_line(name: str, value: str) -> str:
    """Return one line of a systemd EnvironmentFile= that gives `name` the value `value`.

    In double quotes systemd takes the characters " \\ ` $ literally after a backslash, and everything else (newlines
    too) as it stands. Raises HostFault for what systemd would leave the whole variable out for.
    """
    if any(_is_left_out(ord(character)) for character in value):
        raise HostFault(
            f"the value of {name} holds a control character (a carriage return, say), which systemd lets no"
            " environment have: put the value into Parameter Store without it"
        )
    escaped = "".join("\\" + character if character in '"\\`$' else character for character in value)
    return f'{name}="{escaped}"\n'


def _is_left_out(code: int) -> bool:
    """Return whether systemd takes a value with this character for no value at all (env_value_is_valid)."""
    control = (code < 0x20 and chr(code) not in "\t\n") or code == 0x7F
    no_character = 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE
    return control or no_character


def url_part(value: str) -> str:
    """Return `value` as a user or password inside an address: everything but unreserved characters is encoded."""
    return quote(value, safe="")


def redis_password_hash(value: str) -> str:
    """Return the password as a Redis ACL file takes it: its SHA-256, which needs no escaping and gives nothing away."""
    return "#" + hashlib.sha256(value.encode("utf-8")).hexdigest()
