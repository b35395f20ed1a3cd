"""What is kept of the advisories when an image is built: what was open then, and all that are about its packages."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any

from zmanim_ami.pipeline.advisories import findings
from zmanim_ami.pipeline.advisories.updateinfo import Advisory, parse, unreadable


def make(inventory: Path, updateinfo: Path, at: datetime) -> tuple[str, str]:
    """Return what is kept, as JSON, and in short, of an image with this inventory and the advisories of `at`.

    Raises `advisories-unreadable`, `inventory-too-old`.
    """
    try:
        content, packed = json.loads(inventory.read_text()), updateinfo.read_bytes()
    except (OSError, ValueError) as error:
        raise unreadable("what the builder has written", str(error)) from error
    advisories = parse(packed)
    found = findings.find(content, advisories)
    kept = {
        "at": at.isoformat(timespec="seconds"),
        **asdict(found),
        "advisories": [asdict(each) for each in findings.about(content, advisories)],
    }
    return json.dumps(kept, indent=1) + "\n", found.text(at)


def advisories(kept: Mapping[str, Any]) -> tuple[Advisory, ...]:
    """Return all advisories of what was kept."""
    return tuple(Advisory(each["id"], each["severity"], tuple(each["fixes"])) for each in kept["advisories"])


def found(kept: Mapping[str, Any]) -> findings.Findings:
    """Return what was open, and not covered, of what was kept."""
    opened = (findings.Open(each["id"], each["severity"], tuple(each["packages"])) for each in kept["open"])
    return findings.Findings(tuple(opened), tuple(kept["not_covered"]))
