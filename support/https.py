"""Reading what lies at an https address, and at no other one."""

from __future__ import annotations

import urllib.request
from http.client import HTTPResponse


def opened(url: str, seconds: float) -> HTTPResponse:
    """Return the answer to a request for `url`, to be closed. Raises OSError, and ValueError for any other address."""
    if not url.startswith("https://"):
        raise ValueError(f"{url} is no https address")
    response: HTTPResponse = urllib.request.urlopen(url, timeout=seconds)  # noqa: S310  # https, as was just checked
    return response


def read(url: str, seconds: float, most: int) -> bytes:
    """Return what lies at `url`. Raises OSError, and ValueError for another address and for more than `most` bytes."""
    with opened(url, seconds) as response:
        content = response.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{url} has more than {most} bytes")
    return content
