"""Whether SES sends the mail about failures: who sends, who is to get it, and the account's sandbox.

In the sandbox ("Request production access", Amazon SES Developer Guide) SES mails only to who is verified; and an
identity that SES knows may still be Pending, or Failed when nobody has clicked for a day: it sends nothing then.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial

from support.progress import say
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.aws import Clients

SUCCESS = "Success"
PENDING = "Pending"
_OUT = "https://docs.aws.amazon.com/ses/latest/dg/request-production-access.html"


def plan(clients: Clients, sender: str, recipient: str) -> Iterator[Change]:
    """Yield what keeps SES from sending the mail about failures, and say whether the account is in the sandbox.

    Raises botocore's errors.
    """
    production = clients.sesv2.get_account().get("ProductionAccessEnabled", False)
    if production:
        say(f"SES in {clients.region}: out of its sandbox, mail goes to anybody")
    else:
        say(f"SES in {clients.region}: in its sandbox, mail goes to verified addresses only ({_OUT})")
    needed = {sender: "mail about failures comes from it"}
    if not production and recipient != sender:
        needed[recipient] = "mail about failures goes to it, and SES is in its sandbox"
    for address, why in needed.items():
        yield from _verified(clients, address, why)


def enough(address: str) -> tuple[str, ...]:
    """Return the identities of which each one is enough for an address: itself, its domain, and those above that."""
    domain = address.partition("@")[2]
    return address, *(domain.split(".", cut)[-1] for cut in range(domain.count(".")))


def _verified(clients: Clients, address: str, why: str) -> Iterator[Change]:
    identities = enough(address)
    found: Mapping[str, Mapping[str, str]]
    found = clients.ses.get_identity_verification_attributes(Identities=list(identities))["VerificationAttributes"]  # type: ignore[assignment]  # a TypedDict is one
    statuses = {name: attributes["VerificationStatus"] for name, attributes in found.items()}
    if SUCCESS in statuses.values():
        return
    waiting = [name for name, status in statuses.items() if status == PENDING]
    if waiting:
        how = "confirm the mail that came there" if "@" in waiting[0] else "its DNS records are not there yet"
        yield Change("confirm", f"address {address}", f"{why}, and SES waits for {waiting[0]}: {how}")
        return
    status = ", ".join(f"{name} is {status}" for name, status in statuses.items()) or "SES does not know it"
    ask = partial(clients.ses.verify_email_identity, EmailAddress=address)
    yield Change("verify", f"address {address}", f"{why}, and {status}; confirm the mail that comes there", ask)
