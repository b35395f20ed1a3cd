"""What AWS mails to an address and waits for a click on: SES's verification of an identity, SNS's of a subscription.

Such a mail is a line of state/NAME/confirmations.jsonl (`address`, `subject`, `link`), and following its link is the
click. Whoever has the link has had the mail: it opens without a key, and holds 128 random bits. With `/expire` behind
it, it is the click that never came.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from werkzeug.wrappers import Response

from localcloud.api.one_form import Environ
from localcloud.journal import Journal

_PATH = "/localcloud/confirm/"


@dataclass(frozen=True)
class Question:
    """What a click does, and what happens when nobody clicks for a day."""

    confirm: Callable[[], object]
    expire: Callable[[], object]


class Confirmations:
    """The links that are out; `base` is where the host finds the API."""

    def __init__(self, journal: Journal, base: str) -> None:
        self._journal = journal
        self._base = base
        self._open: dict[str, Question] = {}

    def ask(self, address: str, subject: str, question: Question) -> str:
        """Mail a link to an address and return its token."""
        token = secrets.token_hex(16)
        self._open[token] = question
        self._journal.append({"address": address, "subject": subject, "link": f"{self._base}{_PATH}{token}"})
        return token

    def confirm(self, token: str) -> bool:
        """Click; return whether there was such a link."""
        question = self._open.pop(token, None)
        if question is not None:
            question.confirm()
        return question is not None

    def before(self, application: Callable[[Environ, Any], Iterable[bytes]]) -> Callable[[Environ, Any], Any]:
        """Return an application that answers links itself and leaves the rest to `application`."""

        def answer(environ: Environ, start_response: Any) -> Iterable[bytes]:
            match = re.fullmatch(rf"{_PATH}([0-9a-f]{{32}})(/expire)?", str(environ.get("PATH_INFO", "")))
            if match is None or environ.get("REQUEST_METHOD") != "GET":
                return application(environ, start_response)
            done = self._expire(match[1]) if match[2] else self.confirm(match[1])
            words = "confirmed" if done and not match[2] else "expired" if done else "no such link, or it was used"
            return Response(f"{words}\n", 200 if done else 404)(environ, start_response)

        return answer

    def _expire(self, token: str) -> bool:
        question = self._open.pop(token, None)
        if question is not None:
            question.expire()
        return question is not None
