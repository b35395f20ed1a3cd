"""Files that record what happened, one JSON object a line, the oldest first."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """A file that threads append to; it appears with its first entry."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()

    def append(self, entry: Mapping[str, Any]) -> None:
        """Append one entry."""
        line = json.dumps(entry)
        with self._lock, self.path.open("a") as file:
            file.write(line + "\n")
