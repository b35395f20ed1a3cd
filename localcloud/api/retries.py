"""Calls that an SDK makes again because the response never reached it: they get that response, and do nothing twice.

A repeated CreateSecurityGroup would be refused as a duplicate of the first, and a build would end for a connection that
broke. AWS has the same weakness but for operations with a client token; here it would only make a rehearsal fail for
this machine's sake. SDKs say which attempt a request is, and of which call:
https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
"""

from __future__ import annotations

import re
import threading
from collections import OrderedDict

from werkzeug.wrappers import Response

from localcloud.api.calls import ApiCall
from localcloud.api.one_form import Environ

# A retry follows within seconds; larger responses are objects and lists, which can be asked for again.
_MOST = 512
_LARGEST_BYTES = 64 << 10


def attempt(environ: Environ) -> int:
    """Return which attempt of its SDK a request is, 1 for the first and for who does not say."""
    match = re.search(r"attempt=(\d+)", str(environ.get("HTTP_AMZ_SDK_REQUEST", "")))
    return int(match[1]) if match else 1


class RecentResponses:
    """The good responses of late, by the call with its caller, and the id that all attempts at it have in common."""

    def __init__(self) -> None:
        self._responses: OrderedDict[tuple[ApiCall, str], Response] = OrderedDict()
        self._lock = threading.Lock()

    def remember(self, environ: Environ, call: ApiCall, response: Response) -> None:
        """Remember a response, if it is a good one: after any other the call may well be made anew."""
        invocation = environ.get("HTTP_AMZ_SDK_INVOCATION_ID")
        if invocation and response.status_code == 200 and len(response.get_data()) <= _LARGEST_BYTES:
            with self._lock:
                self._responses[call, invocation] = response
                if len(self._responses) > _MOST:
                    self._responses.popitem(last=False)

    def of_earlier_attempt(self, environ: Environ, call: ApiCall) -> Response | None:
        """Return the response that an earlier attempt of this call was given, or None."""
        if attempt(environ) == 1:
            return None
        with self._lock:
            return self._responses.get((call, environ.get("HTTP_AMZ_SDK_INVOCATION_ID", "")))
