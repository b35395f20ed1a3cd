"""An account of every mail that SES has taken, one JSON object a line, the oldest first: state/NAME/mails.jsonl.

moto's own view of them (/moto-api/data.json) was rejected: it fails as a whole as soon as one object of any service
can't be read, such as what was left of a bucket that is gone.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from moto.ses.models import SESBackend

from localcloud.api.patches import replace


def install(path: Path) -> None:
    """Write each mail of SendEmail down once moto has taken it: source, subject, body, destinations by their kind."""
    lock = threading.Lock()
    send = SESBackend.send_email

    def send_email(backend: SESBackend, source: str, subject: str, body: str, destinations: dict[str, Any]) -> Any:
        message = send(backend, source, subject, body, destinations)
        line = json.dumps({"source": source, "subject": subject, "body": body, "destinations": destinations})
        with lock, path.open("a") as file:
            file.write(line + "\n")
        return message

    replace(SESBackend, "send_email", send_email)
