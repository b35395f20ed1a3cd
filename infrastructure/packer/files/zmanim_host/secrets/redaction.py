"""Clearing text that leaves this machine of secrets: their values, and whatever looks like one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

from zmanim_host.secrets.secret_files import FIXED

REDACTED = "[redacted]"
# No word that short is a secret, and clearing it would make the mail unreadable.
SHORTEST = 6

# What the files of secrets hold beside secrets: the mail would be full of holes.
_HARMLESS = {*FIXED.values(), "default", "zmanim", "backup"}

_LOOKS_SECRET = (
    # user:password@ in an address
    (re.compile(r"(?<=://)([^/\s:@]*):([^@\s]+)@"), rf"\1:{REDACTED}@"),
    # AWS's key ids, and what follows a word that promises a secret
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"(?i)([\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|auth)[\w.-]*[\"']?\s*[=:]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;]+)"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), REDACTED),
    # three parts with dots: a JSON web token
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), REDACTED),
)


def secret_values(directory: Path) -> set[str]:
    """Return every secret that this machine has: each file below `directory`, and each value in an environment file."""
    secrets: set[str] = set()
    for path in (path for path in directory.rglob("*") if path.is_file()):
        text = path.read_text("utf-8", "replace")
        if path.suffix == ".env":
            # As escaping.environment_line writes them: NAME="value", with backslashes.
            values = re.findall(r'^\w+="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE | re.DOTALL)
            secrets.update(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for value in values)
            secrets.update(password for value in values for password in re.findall(r"://[^/\s:@]*:([^@\s]+)@", value))
        else:
            secrets.update(text.split() if path.suffix == ".acl" else [text])
    stripped = {value.strip() for value in secrets}
    encoded = {quote(value, safe="") for value in stripped}
    return {value for value in stripped | encoded if len(value) >= SHORTEST} - _HARMLESS


def redact(text: str, values: Iterable[str]) -> str:
    """Return `text` without these values and without what looks like a secret."""
    # The longest first: one may be a part of another.
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, REDACTED)
    for pattern, instead in _LOOKS_SECRET:
        text = pattern.sub(instead, text)
    return text
