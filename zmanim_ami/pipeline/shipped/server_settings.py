"""The servers' configuration as they read it: PostgreSQL's, Redis's, and files of NAME=value."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_SETTING = re.compile(r"([\w.-]+)\s*(?:=\s*|\s+)(.*)")


@dataclass(frozen=True)
class Value:
    """One value of a setting, without its quotes, and the line it stands on."""

    text: str
    line: int


def effective(path: Path) -> dict[str, list[Value]]:
    """Return every setting of a server's configuration with its values in their order: the last one counts.

    PostgreSQL's `name = 'value' # comment` and Redis's `name value` alike; a line that is neither is left out.
    """
    settings: dict[str, list[Value]] = {}
    for number, line in enumerate(path.read_text().splitlines(), 1):
        match = _SETTING.fullmatch(line.strip())
        if match:
            value = match[2].strip()
            quoted = re.match(r"'((?:[^']|'')*)'|\"([^\"]*)\"", value)
            text = (quoted[1] or quoted[2] or "") if quoted else re.sub(r"\s+#.*", "", value)
            settings.setdefault(match[1].lower(), []).append(Value(text, number))
    return settings
