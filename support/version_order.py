"""Which of two versions is the newer one."""

from __future__ import annotations

import re

Key = tuple[tuple[int, int, str], ...]


def version_key(version: str) -> Key:
    """Return a key that sorts versions such as `7.2.4`, `v1.2.3-rc.1` and `go1.26.8` by age.

    Numbers count as numbers, and a word comes before a number and before the end: `1.2-rc.1` is older than `1.2`, and
    that is older than `1.2.0`.
    """
    parts = re.findall(r"\d+|[a-zA-Z]+", re.sub(r"^(v|go)(?=\d)", "", version))
    return (*((1, int(part), "") if part.isdigit() else (0, 0, part) for part in parts), (1, -1, ""))
