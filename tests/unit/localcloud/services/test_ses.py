from __future__ import annotations

import json
from pathlib import Path

import pytest
from moto.ses.exceptions import MessageRejectedError
from moto.ses.models import SESBackend

from localcloud.services import ses as hooks_mails


@pytest.fixture
def account(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(SESBackend, "send_email", SESBackend.send_email)  # put back at the end
    hooks_mails.install(tmp_path / "mails.jsonl")
    return tmp_path / "mails.jsonl"


def test_a_mail_that_ses_has_taken_is_written_down(account: Path) -> None:
    ses = SESBackend("eu-west-1", "123456789012")
    ses.verify_email_identity("a@example.org")
    for subject in ("one", "two"):
        ses.send_email("a@example.org", subject, "line\nline", {"ToAddresses": ["b@example.org"]})
    told = [json.loads(line) for line in account.read_text().splitlines()]
    assert [mail["subject"] for mail in told] == ["one", "two"]
    assert told[0]["body"] == "line\nline"
    assert told[0]["destinations"] == {"ToAddresses": ["b@example.org"]}


def test_a_mail_that_ses_has_rejected_is_not(account: Path) -> None:
    with pytest.raises(MessageRejectedError):
        SESBackend("eu-west-1", "123456789012").send_email("a@example.org", "one", "", {"ToAddresses": []})
    assert not account.exists()
