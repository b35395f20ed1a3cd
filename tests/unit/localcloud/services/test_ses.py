from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from moto.ses.exceptions import MessageRejectedError
from moto.ses.models import SESBackend

from localcloud.journal import Journal
from localcloud.services.ses import Mails


def send(journal: Path, ses: SESBackend, *mail: Any) -> None:
    Mails(Journal(journal)).send_email(SESBackend.send_email, ses, *mail)


def test_a_mail_that_ses_has_taken_is_written_down(tmp_path: Path) -> None:
    ses = SESBackend("eu-west-1", "123456789012")
    ses.verify_email_identity("a@example.org")
    for subject in ("one", "two"):
        send(tmp_path / "mails", ses, "a@example.org", subject, "line\nline", {"ToAddresses": ["b@example.org"]})
    mails = [json.loads(line) for line in (tmp_path / "mails").read_text().splitlines()]
    assert [mail["subject"] for mail in mails] == ["one", "two"]
    assert mails[0]["body"] == "line\nline"
    assert mails[0]["destinations"] == {"ToAddresses": ["b@example.org"]}


def test_a_mail_that_ses_has_rejected_is_not(tmp_path: Path) -> None:
    with pytest.raises(MessageRejectedError):
        send(tmp_path / "mails", SESBackend("eu-west-1", "1"), "a@example.org", "one", "", {"ToAddresses": []})
    assert not (tmp_path / "mails").exists()
