"""An account of every API call, one JSON object a line: state/NAME/api.jsonl."""

from __future__ import annotations

import json
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path


@dataclass(frozen=True)
class Call:
    """One call: who made it ("host" or an instance id), of what, and how it was answered.

    `emulated` is False for an operation that the cloud lacks or failed at; `error` is AWS's code or ""; `attempt` is
    which of its SDK's attempts at one call this is, from 1.
    """

    source: str
    service: str
    operation: str
    status: int
    emulated: bool
    error: str
    attempt: int


class Audit:
    """Appends calls to a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()

    def write(self, call: Call) -> None:
        """Append one call, stamped with the time in seconds since 1970."""
        line = json.dumps({"time": round(time.time(), 3), **asdict(call)})
        with self._lock, self._path.open("a") as file:
            file.write(line + "\n")
