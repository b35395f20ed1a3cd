"""Waiting for something that happens elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def wait_for(look: Callable[[], Result], seconds: float, pause: float = 0.01) -> Result:
    """Call `look` until its result is true, for at most `seconds`; return its last result, false when time ran out."""
    deadline = time.monotonic() + seconds
    while not (result := look()) and time.monotonic() < deadline:
        time.sleep(pause)
    return result
