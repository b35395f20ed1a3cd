"""What this run has written, and the patience that it earns: AWS may not see a thing for seconds after it was made.

EC2 and IAM are eventually consistent ("Eventual consistency in the Amazon EC2 API", "Changes that I make are not always
immediately visible" in IAM's guide): a call that names what was just written may be told that there is no such thing,
or that it is denied. Such a call is made again, for 30 seconds at most, when it names what *this run* wrote, and a line
says so. Whatever else is refused is refused at once: nobody waits half a minute for a right that is missing.

It is done at botocore's own seam for retries, so that no caller can forget it. What is read without an error but as it
was before (tags, a parameter's older value) only the caller knows: `Written.settled` waits for that.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from support.progress import say

PATIENCE_SECONDS = 30.0
# How each line about a wait begins.
WAITING = "waiting for"
_PAUSE_SECONDS = 1.0
_WRITES = re.compile(r"(?:Create|Put|Run|Add|Register|Copy|Import|Update|Modify)[A-Z]")
_DELETES = re.compile(r"(?:Delete|Deregister|Remove)[A-Z]")
# The parameters of writes that name what is written. Objects in buckets are not among them: S3 shows those at once.
_NAMING = frozenset(
    ("RoleName", "InstanceProfileName", "Resources", "AliasName", "GroupName", "KeyName", "OpenIDConnectProviderArn")
)
_NAMING_BY_OPERATION = {"PutParameter": "Name", "CreateBucket": "Bucket"}
_IDS = re.compile(r"(?:i|ami|snap|vol|sg|subnet|vpc|igw|rtb)-[0-9a-f]{8,17}", re.ASCII)
# How AWS says that there is no such thing, and that it is not allowed. InvocationDoesNotExist and InvalidInstanceId are
# no part of it: who runs a command waits for those by themselves.
_ABSENT = re.compile(r".*NotFound|NoSuchEntity|NoSuchBucket|NotFoundException|404", re.ASCII)
_DENIED = frozenset(("AccessDenied", "AccessDeniedException", "UnauthorizedOperation", "403"))
_THROTTLED = frozenset(("RequestLimitExceeded", "Throttling", "ThrottlingException", "SlowDown"))
_NAMES, _SINCE, _GIVEN = "zmanim_names", "zmanim_since", "zmanim_given"


class Written:
    """The names of what this run has written by the clients that it watches. `sleep` and `clock` are in seconds."""

    def __init__(
        self, sleep: Callable[[float], None] = time.sleep, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._names: set[str] = set()
        self._sleep = sleep
        self._clock = clock

    def note(self, *names: str) -> None:
        """Remember what was written by somebody else on this run's behalf (Packer's image)."""
        self._names.update(names)

    def forget(self) -> None:
        """Forget everything: another account, or another run."""
        self._names.clear()

    def watch(self, client: Any) -> None:
        """Remember what a client of boto3's writes, and let its calls about that be made again."""
        events = client.meta.events
        events.register("before-parameter-build.*.*", self._begin)
        events.register("after-call.*.*", self._ended)
        events.register("needs-retry.*.*", self._again)

    def settled(self, what: str, look: Callable[[], bool]) -> bool:
        """Wait until `look` finds what this run has just written, at most PATIENCE_SECONDS; return whether it did.

        A task ends with that: the next one, in a process of its own, does not know what this one wrote.

        `look`'s errors come through.
        """
        end, said = self._clock() + PATIENCE_SECONDS, False
        while not look():
            if self._clock() >= end:
                say(f"{what}: not visible after {PATIENCE_SECONDS:.0f} s")
                return False
            if not said:
                _say(what, "it is seen as it was before")
                said = True
            self._sleep(_PAUSE_SECONDS)
        return True

    def _begin(self, params: Mapping[str, Any], context: dict[str, Any], **_: Any) -> None:
        context[_GIVEN] = params
        context[_NAMES] = frozenset(_texts(params))

    def _ended(
        self, http_response: Any, parsed: Mapping[str, Any], model: Any, context: dict[str, Any], **_: Any
    ) -> None:
        if http_response.status_code >= 300:
            return
        given, operation = context.get(_GIVEN, {}), model.name
        naming = _NAMING | {_NAMING_BY_OPERATION.get(operation, "")}
        named = {text for key, value in given.items() if key in naming for text in _texts(value)}
        if _WRITES.match(operation):
            self._names |= named | {text for text in _texts(parsed) if _IDS.fullmatch(text)}
        elif _DELETES.match(operation) and operation != "DeleteTags":
            self._names -= set(_texts(given))

    def _again(self, response: Any, operation: Any, request_dict: Mapping[str, Any], **_: Any) -> float | None:
        """Return 0 for "once more", None for "as botocore has it"; sleeps itself, so that a test's clock can."""
        if response is None or response[0].status_code < 300:
            return None
        context, code = request_dict["context"], str(response[1].get("Error", {}).get("Code", ""))
        # Who waits makes more calls than botocore has retries, and some of them may be throttled.
        if not (_ABSENT.fullmatch(code) or code in _DENIED or (code in _THROTTLED and _SINCE in context)):
            return None
        concerned = sorted(self._names & context.get(_NAMES, frozenset()))
        if not concerned:
            return None
        if _SINCE not in context:
            _say(", ".join(concerned), f"{operation.name} says {code}")
        since = context.setdefault(_SINCE, self._clock())
        if self._clock() - since >= PATIENCE_SECONDS:
            return None
        self._sleep(_PAUSE_SECONDS)
        return 0.0


def _say(what: str, why: str) -> None:
    say(f"{WAITING} {what} to be visible (eventual consistency: {why})")


def _texts(value: Any) -> Iterator[str]:
    """Yield every text in what a call was given or answered with."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _texts(each)
