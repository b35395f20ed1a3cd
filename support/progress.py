"""Progress for people, on stderr, so that stdout holds only results."""

from __future__ import annotations

import io
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr


def say(message: str) -> None:
    """Write one line of progress to stderr, at once."""
    print(message, file=sys.stderr, flush=True)


@contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a piece of work and, when it is over, how many seconds it took and whether it failed."""
    start = time.monotonic()
    say(f"▸ {name}")
    try:
        yield
    except BaseException:
        say(f"✗ {name} failed after {time.monotonic() - start:.1f} s")
        raise
    say(f"✓ {name} ({time.monotonic() - start:.1f} s)")


@contextmanager
def quietly() -> Iterator[None]:
    """Keep to itself what the body of a `with` says, unless it fails: then all of it is said before the error is."""
    kept = io.StringIO()
    try:
        with redirect_stderr(kept):
            yield
    except BaseException:
        print(kept.getvalue(), end="", file=sys.stderr, flush=True)
        raise
