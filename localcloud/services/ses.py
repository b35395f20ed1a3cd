"""A journal of every mail that SES has taken: state/NAME/mails.jsonl.

moto's own list of them (/moto-api/data.json) was rejected: it fails as a whole as soon as one object of any service
can't be read, such as what was left of a bucket that is gone.
"""

from __future__ import annotations

from typing import Any

from moto.ses.models import SESBackend

from localcloud.api.patches import patch
from localcloud.journal import Journal


class Mails:
    """moto's SES with a journal: source, subject, body, and the destinations by their kind."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @patch(SESBackend.send_email, wraps=True)
    def send_email(self, original: Any, backend: SESBackend, *mail: Any) -> Any:
        """Record a mail once moto has taken it."""
        message = original(backend, *mail)
        self._journal.append(dict(zip(("source", "subject", "body", "destinations"), mail, strict=True)))
        return message
