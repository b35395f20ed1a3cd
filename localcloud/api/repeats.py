"""Calls that an SDK makes again because the answer never reached it: they get that answer, and do nothing twice.

A repeated CreateSecurityGroup would be refused as a duplicate of the first, and a build would end for a connection that
broke. AWS has the same weakness but for operations with a client token; here it would only make a rehearsal fail for
this machine's sake. SDKs say which attempt a request is, and of which call:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict
from dataclasses import dataclass

from localcloud.api.calls import Environ

# A repetition follows within seconds; larger answers are objects and lists, which can be asked for again.
_KEPT = 512
_LARGEST = 64 << 10


@dataclass(frozen=True)
class Answer:
    """An answer as it was sent: the status line, the headers and the body."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes


def attempt(environ: Environ) -> int:
    """Return which attempt of its SDK a request is, 1 for the first and for who does not say."""
    found = re.search(r"attempt=(\d+)", str(environ.get("HTTP_AMZ_SDK_REQUEST", "")))
    return int(found[1]) if found else 1


class Answers:
    """The good answers of late, by the id that all attempts of one call have in common."""

    def __init__(self) -> None:
        self._kept: OrderedDict[str, Answer] = OrderedDict()
        self._lock = threading.Lock()

    def keep(self, environ: Environ, answer: Answer) -> None:
        """Remember an answer, if it is a good one: after any other the call may well be made anew."""
        call = str(environ.get("HTTP_AMZ_SDK_INVOCATION_ID", ""))
        if not call or not answer.status.startswith("200") or len(answer.body) > _LARGEST:
            return
        with self._lock:
            self._kept[call] = answer
            while len(self._kept) > _KEPT:
                self._kept.popitem(last=False)

    def lost(self, environ: Environ) -> Answer | None:
        """Return the answer that an earlier attempt of this call was given, or None."""
        if attempt(environ) == 1:
            return None
        with self._lock:
            return self._kept.get(str(environ.get("HTTP_AMZ_SDK_INVOCATION_ID", "")))
