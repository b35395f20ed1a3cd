"""SES: what it refuses in its sandbox, identities that wait for a click, and a journal of what it took.

Every mail that SES has taken is a line of state/NAME/mails.jsonl. moto's own list of them (/moto-api/data.json) was
rejected: it fails as a whole as soon as one object of any service can't be read, such as what was left of a bucket that
is gone.

An account begins in the sandbox ("Request production access", Amazon SES Developer Guide): only verified identities are
mailed to. sesv2's PutAccountDetails asks for the way out, and is granted it at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import parseaddr
from typing import Any

from moto.core.responses import ActionResult
from moto.ses.models import SESBackend
from moto.sesv2.responses import SESV2Response
from moto.sesv2.urls import url_paths

from localcloud.api.patches import ApiError, add, patch
from localcloud.journal import Journal
from localcloud.services.confirmations import Confirmations, Question

PENDING, SUCCESS, FAILED = "Pending", "Success", "Failed"
_MAIL = ("source", "subject", "body", "destinations")
_SIMULATOR = "simulator.amazonses.com"
# Flask has no route for moto's own `/v2/.*`: without these it never comes to what is added below.
for _path in ("account", "account/details"):
    url_paths.setdefault(f"{{0}}/v2/email/{_path}$", SESV2Response.dispatch)


class Mails:
    """moto's SES with a journal: source, subject, body, and the destinations by their kind."""

    def __init__(self, journal: Journal, confirmations: Confirmations) -> None:
        self._journal = journal
        self._confirmations = confirmations
        self._status: dict[tuple[str, str], str] = {}
        self._production: set[str] = set()  # the regions in which the account is out of the sandbox: each has its own

    @patch(SESBackend.create_email_identity_v2, wraps=True)
    def create_identity(self, original: Any, backend: SESBackend, identity: str, *more: Any) -> Any:
        """Make an identity that is not verified before somebody clicks (or, for a domain, writes a DNS record)."""
        key = backend.region_name, identity
        self._status[key] = PENDING
        question = Question(lambda: self._set(key, SUCCESS), lambda: self._set(key, FAILED))
        subject = f"Amazon Web Services - Email Address Verification Request in region {backend.region_name}"
        self._confirmations.ask(identity, subject, question)
        return original(backend, identity, *more)

    def _set(self, key: tuple[str, str], status: str) -> None:
        self._status[key] = status

    @patch(SESBackend.verify_email_identity, wraps=True)
    def verify_email_identity(self, original: Any, backend: SESBackend, address: str) -> None:
        """Ask for the click again where it has not come."""
        if not self._verified(backend, address):
            backend.email_identities.pop(parseaddr(address)[1], None)
        original(backend, address)

    @patch(SESBackend._is_verified_address)
    def is_verified(self, backend: SESBackend, source: str) -> bool:
        """Say whether an address is verified, itself or by its domain."""
        return self._verified(backend, source)

    def _verified(self, backend: SESBackend, source: str) -> bool:
        address = parseaddr(source)[1]
        domain = address.rpartition("@")[2].lower()
        names = [address, *(domain.split(".", cut)[-1] for cut in range(domain.count(".")))]
        return any(self._status.get((backend.region_name, name)) == SUCCESS for name in names)

    @patch(SESBackend.get_identity_verification_attributes)
    def verification_attributes(self, backend: SESBackend, identities: Iterable[str] = ()) -> dict[str, Any]:
        """Return the status of each identity that is there."""
        return {
            name: {"VerificationStatus": self._status.get((backend.region_name, name), PENDING)}
            for name in identities or ()
            if name in backend.email_identities
        }

    @patch(SESBackend.delete_identity)
    def delete_identity(self, backend: SESBackend, identity: str) -> None:
        """Forget an identity, verified or not."""
        backend.email_identities.pop(identity, None)
        self._status.pop((backend.region_name, identity), None)

    def _check(self, backend: SESBackend, source: str, recipients: Iterable[str]) -> None:
        """Raise SES's refusal unless all that has to be verified is ("Amazon SES email sending errors")."""
        checked = [source]
        if backend.region_name not in self._production:
            checked += [each for each in recipients if not parseaddr(each)[1].endswith(f"@{_SIMULATOR}")]
        failed = [parseaddr(each)[1] for each in checked if not self._verified(backend, each)]
        if failed:
            region = backend.region_name.upper()
            raise ApiError(
                "MessageRejected",
                "Email address is not verified. The following identities failed the check in region"
                f" {region}: {', '.join(dict.fromkeys(failed))}",
            )

    @patch(SESBackend.send_email, wraps=True)
    def send_email(self, original: Any, backend: SESBackend, *mail: Any, **named: Any) -> Any:
        """Record a mail once moto has taken it; its second version names what the first one hands over in order."""
        mail = mail or tuple(named[name] for name in _MAIL)
        source, _, _, destinations = mail
        self._check(backend, source, (each for kind in destinations.values() for each in kind))
        message = original(backend, *mail)
        self._journal.append(dict(zip(_MAIL, mail, strict=True)))
        return message

    @patch(SESBackend.send_raw_email, wraps=True)
    def send_raw_email(self, original: Any, backend: SESBackend, source: str, destinations: Any, raw_data: str) -> Any:
        """Send a mail as it is, if its sender and recipients may be."""
        if source:
            self._check(backend, source, destinations or ())
        return original(backend, source, destinations, raw_data)

    @add(SESV2Response)
    def get_account(self, response: Any) -> ActionResult:
        """GetAccount: whether the account is out of the sandbox here."""
        out = response.region in self._production
        quota = {
            "Max24HourSend": 50000.0 if out else 200.0,
            "MaxSendRate": 14.0 if out else 1.0,
            "SentLast24Hours": 0.0,
        }
        return ActionResult(
            {
                "ProductionAccessEnabled": out,
                "SendingEnabled": True,
                "EnforcementStatus": "HEALTHY",
                "DedicatedIpAutoWarmupEnabled": False,
                "SendQuota": quota,
            }
        )

    @add(SESV2Response)
    def put_account_details(self, response: Any) -> ActionResult:
        """PutAccountDetails: asks for production access, which takes AWS a day."""
        if response._get_param("ProductionAccessEnabled"):
            self._production.add(response.region)
        return ActionResult({})
