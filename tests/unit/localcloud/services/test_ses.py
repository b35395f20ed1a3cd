"""SES as it is for a new account: nobody is mailed to who has not clicked."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.util import setup_testing_defaults

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.moto_server.werkzeug_app import create_backend_app

from localcloud.journal import Journal
from localcloud.services.confirmations import Confirmations
from localcloud.services.ses import Mails

REGION = "eu-west-1"


class Ses:
    """SES, its mails, and the mails that wait for a click."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.confirmations = Confirmations(Journal(directory / "confirmations"), "http://cloud")
        self.holder = Mails(Journal(directory / "mails"), self.confirmations)
        self.client = boto3.client("ses", REGION)
        self.v2 = boto3.client("sesv2", REGION)

    def lines(self, name: str) -> list[dict[str, Any]]:
        path = self.directory / name
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def send(self, recipient: str, subject: str = "one") -> None:
        message: Any = {"Subject": {"Data": subject}, "Body": {"Text": {"Data": "line\nline"}}}
        self.client.send_email(Source="a@example.org", Destination={"ToAddresses": [recipient]}, Message=message)

    def follow(self, address: str, *, path: str = "") -> str:
        """Follow the newest link that an address was mailed; return the status of the answer."""
        link = [each["link"] for each in self.lines("confirmations") if each["address"] == address][-1]
        environ: dict[str, Any] = {}
        setup_testing_defaults(environ)
        environ["PATH_INFO"] = link.removeprefix("http://cloud") + path
        answered: list[str] = []
        list(self.confirmations.before(lambda *_: [])(environ, lambda status, *_: answered.append(status)))
        return answered[0][:3]

    def verify(self, address: str) -> None:
        self.client.verify_email_identity(EmailAddress=address)
        assert self.follow(address) == "200"

    def status(self, address: str) -> str:
        found = self.client.get_identity_verification_attributes(Identities=[address])["VerificationAttributes"]
        return str(found[address]["VerificationStatus"])


@pytest.fixture
def ses(changed: Callable[..., None], tmp_path: Path) -> Ses:
    made = Ses(tmp_path)
    changed(made.holder)
    return made


def refusal(ses: Ses, recipient: str) -> str:
    with pytest.raises(ClientError) as refused:
        ses.send(recipient)
    assert refused.value.response["Error"]["Code"] == "MessageRejected"
    return refused.value.response["Error"]["Message"]


def test_a_mail_that_ses_has_taken_is_written_down(ses: Ses) -> None:
    for address in ("a@example.org", "b@example.org"):
        ses.verify(address)
    for subject in ("one", "two"):
        ses.send("b@example.org", subject)
    mails = ses.lines("mails")
    assert [mail["subject"] for mail in mails] == ["one", "two"]
    assert mails[0]["body"] == "line\nline"
    assert mails[0]["destinations"]["ToAddresses"] == ["b@example.org"]


def test_the_sandbox_refuses_who_is_not_verified_and_names_them_all(ses: Ses) -> None:
    words = "Email address is not verified. The following identities failed the check in region EU-WEST-1: "
    assert refusal(ses, "b@example.org") == f"{words}a@example.org, b@example.org"
    ses.verify("a@example.org")
    assert refusal(ses, "b@example.org") == f"{words}b@example.org"
    assert ses.lines("mails") == []
    # A domain stands for its addresses, and the simulator's are everybody's.
    ses.verify("example.org")
    ses.send("c@mail.example.org")
    ses.send("success@simulator.amazonses.com")
    assert len(ses.lines("mails")) == 2


def test_out_of_the_sandbox_only_the_sender_has_to_be_verified(ses: Ses) -> None:
    assert ses.v2.get_account()["ProductionAccessEnabled"] is False
    ses.v2.put_account_details(MailType="TRANSACTIONAL", WebsiteURL="https://x", ProductionAccessEnabled=True)
    assert ses.v2.get_account()["ProductionAccessEnabled"] is True
    assert refusal(ses, "b@example.org").endswith(": a@example.org")
    ses.verify("a@example.org")
    ses.send("b@example.org")
    # Each region has a sandbox of its own.
    assert boto3.client("sesv2", "eu-central-1").get_account()["ProductionAccessEnabled"] is False


def test_an_identity_is_pending_until_somebody_clicks_and_failed_when_nobody_does(ses: Ses) -> None:
    ses.client.verify_email_identity(EmailAddress="a@example.org")
    assert (ses.status("a@example.org"), ses.client.list_identities()["Identities"]) == ("Pending", ["a@example.org"])
    assert ses.follow("a@example.org", path="/expire") == "200"
    assert ses.status("a@example.org") == "Failed"
    assert ses.follow("a@example.org") == "404"
    # Asked again, it waits again.
    ses.verify("a@example.org")
    assert ses.status("a@example.org") == "Success"
    # What is verified is not asked again.
    before = len(ses.lines("confirmations"))
    ses.client.verify_email_identity(EmailAddress="a@example.org")
    assert len(ses.lines("confirmations")) == before
    ses.client.delete_identity(Identity="a@example.org")
    assert refusal(ses, "a@example.org")


@pytest.mark.parametrize(("path", "method"), [("/v2/email/account", "GET"), ("/v2/email/account/details", "POST")])
def test_the_server_has_a_route_for_what_moto_lacks(path: str, method: str) -> None:
    """The incident: no rehearsal could plan its account, and tests without a server did not see it."""
    routes = create_backend_app("sesv2").url_map.bind("email.eu-west-1.amazonaws.com")
    assert routes.match(path, method=method)
