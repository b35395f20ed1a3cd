"""Where a boot's seconds go, by systemd's own figures: the chain that zmanim-ready waited for, and who took long."""

from __future__ import annotations

import re

from support.errors import Error

READY = "zmanim-ready.service"
# systemd-analyze says nothing before every job is done, and some are still at it when a machine is ready. In English,
# and in ASCII.
ASK_CHAIN = f"systemctl is-system-running --wait >/dev/null; LC_ALL=C systemd-analyze critical-chain --no-pager {READY}"
ASK_BLAME = "LC_ALL=C systemd-analyze blame --no-pager"
SHOWN = 8
_UNITS_OF_TIME = {"h": 3600.0, "min": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6}
_PART = re.compile(r"([0-9.]+)(h|min|s|ms|us)")
_SPAN = r"[0-9.]+(?:h|min|s|ms|us)(?: [0-9.]+(?:min|s|ms|us))*"
# A unit's name may begin with - too, so the branch that it hangs on is part of the pattern.
_LINK = re.compile(rf"^ *`-(\S+\.[a-z]+) @({_SPAN})(?: \+({_SPAN}))?$")
_BLAMED = re.compile(rf"^\s*({_SPAN}) ([\w@:.\\-]+\.[a-z]+)$", re.MULTILINE)


def seconds(span: str) -> float:
    """Return the seconds of a time span as systemd writes it ("1min 2.5s", "180ms")."""
    return round(sum(float(number) * _UNITS_OF_TIME[unit] for number, unit in _PART.findall(span)), 6)


def critical(text: str) -> dict[str, float]:
    """Return when each unit of the critical chain was done (seconds since systemd began), in the order of the boot.

    `text` is what `systemd-analyze critical-chain` says. Raises `not-ready` when no chain is in it.
    """
    links = [match for line in text.splitlines() if (match := _LINK.search(line))]
    if not links:
        raise Error(
            "the boot has no critical chain",
            code="not-ready",
            expected=f"units before {READY}",
            found=text.strip()[-300:],
        )
    return {match[1]: round(seconds(match[2]) + seconds(match[3] or ""), 3) for match in reversed(links)}


def blamed(text: str, most: int = SHOWN) -> dict[str, float]:
    """Return how many seconds each of the slowest units took, the slowest first."""
    return {unit: seconds(span) for span, unit in _BLAMED.findall(text)[:most]}
