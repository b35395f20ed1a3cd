"""The locks: pip finds a wheel of each pin on every host that is promised, told without asking the index."""

from __future__ import annotations

import json
from pathlib import Path

from zmanim_ami.gate.finding import Finding
from zmanim_ami.pipeline.pins import locks


def check(tree: Path) -> list[Finding]:
    """Return each pin that some host has no wheel of, and each that the table of wheels was not made for."""
    try:
        table = json.loads((tree / locks.WHEELS).read_text())
    except (FileNotFoundError, ValueError) as error:
        return [Finding(locks.WHEELS, 0, f"can't be read: {error}: ./inv lock")]
    texts = {name: (tree / name).read_text() for name in locks.LOCKS}
    return [Finding(name, 0, words) for name, words in locks.gaps(texts, table)]
