"""Mail about a unit that failed, and about a release of the API that was rolled back.

It is put on disk first, sent by SES when that answers, and never twice an hour for one unit or one release. What goes
into it from the journal is cleared of secrets (secrets/redaction.py).

SES may be away, and then it is asked again soon; or it says no, mostly because an address is not verified: that takes
somebody, who can't be mailed to. So it is noted for zmanim-ready and for an alarm (monitoring/vitals.py), and asked
again once a day, and with each new mail.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from zmanim_host.aws.awscli import aws
from zmanim_host.host import ERROR, RUN, HostError, locked, log, required_variables, run, write_whole
from zmanim_host.secrets.redaction import redact, secret_values
from zmanim_host.systemd import API, MIGRATIONS

SPOOL = Path("/var/lib/zmanim-notices")
REFUSAL = "refused.json"
BAKED = Path("/opt/zmanim/baked")
RECENT = ("--all", "--lines=50", "--output=short-iso", "--utc")
# Seconds in which a unit is written about once.
QUIET = 3600.0
# A mail of a week ago helps nobody; and a spool has to end somewhere.
STALE = 7 * 86400.0
MOST = 50
# Seconds after which SES is asked again that has said no.
PAUSE = 86400.0
# Its words for that ("SendEmail", Amazon SES API reference) and IAM's; any other word means that it is away.
NO = re.compile(
    r"\((MessageRejected|MailFromDomainNotVerified\w*|AccountSendingPaused\w*|AccessDenied\w*)\) when calling .*"
)


class Refused(HostError):
    """SES has answered that it does not take this mail, and will say so again until somebody changes something."""


@dataclass(frozen=True)
class Failure:
    """A unit's failure, as systemd tells it to what it starts by OnFailure=; `at` is seconds since 1970."""

    unit: str
    result: str
    code: str
    status: str
    invocation: str
    at: float


@dataclass(frozen=True)
class RolledBack:
    """A release that was rolled back, and the version that is in force instead; `at` is seconds since 1970."""

    version: str
    instead: str
    why: str
    at: float

    @property
    def about(self) -> str:
        """What the quiet hour counts: two releases that are rolled back within an hour are two mails."""
        return f"release {self.version}"


@dataclass(frozen=True)
class Mail:
    """A mail that waits to be sent, about a unit or a release."""

    about: str
    subject: str
    text: str
    at: float


Item = TypeVar("Item", Mail, RolledBack)


@dataclass(frozen=True)
class Sender:
    """Who mails to whom (empty: not known yet), and about which machine; `secrets` are what no mail may hold."""

    environment: str
    region: str
    instance: str
    image: str
    mail_from: str
    mail_to: str
    secrets: frozenset[str] = frozenset()


def sender(environ: Mapping[str, str], secrets: Path) -> Sender:
    """Return who sends; HostError names what is missing."""
    environment, region, instance = required_variables(environ, "ZMANIM_ENVIRONMENT", "AWS_REGION", "INSTANCE_ID")
    # A mail is written without them, and waits: Parameter Store may be what is away.
    mail_from, mail_to = environ.get("MAIL_FROM", ""), environ.get("MAIL_TO", "")
    image = Path(os.path.realpath(BAKED)).name
    return Sender(environment, region, instance, image, mail_from, mail_to, frozenset(secret_values(secrets)))


def failure(unit: str, environ: Mapping[str, str], at: float) -> Failure:
    """Return the failure that systemd tells of in $MONITOR_*."""
    result, code, status = (
        environ.get(f"MONITOR_{name}", "unknown") for name in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")
    )
    return Failure(unit, result, code, status, environ.get("MONITOR_INVOCATION_ID", ""), at)


# ---- What a mail says ----


def compose(failed: Failure, who: Sender, journal: str, withheld: int) -> Mail:
    """Return the mail about a failure; `withheld` earlier ones of the same unit were not written about."""
    more = f"\nSince the last mail about it, it has failed {withheld} times more.\n" if withheld else ""
    text = f"""{failed.unit} failed at {_utc(failed.at)}.

Environment:   {who.environment} ({who.instance}, {who.region})
Image:         {who.image}
Result:        {failed.result}
Exit code:     {failed.code} {failed.status}
{more}
Its last lines in the journal (more: journalctl --unit {failed.unit}):

{journal}
"""
    subject = f"zmanim {who.environment}: {failed.unit} failed"
    return Mail(failed.unit, subject, redact(text, who.secrets), failed.at)


def compose_rolled_back(release: RolledBack, who: Sender, journal: str, withheld: int) -> Mail:
    """Return the mail about a release that was rolled back, `withheld` times more since the last mail about it."""
    more = f"\nSince the last mail about it, it was rolled back {withheld} times more.\n" if withheld else ""
    text = f"""{release.version} was rolled back at {_utc(release.at)}: {release.why}.

Runs now:      {release.instead}
Environment:   {who.environment} ({who.instance}, {who.region})
Image:         {who.image}
{more}
This machine does not try {release.version} again. Publish a newer release, or roll the channel back.

The last lines of the API and its migrations in the journal:

{journal}
"""
    subject = f"zmanim {who.environment}: {release.version} was rolled back, {release.instead} runs"
    return Mail(release.about, subject, redact(text, who.secrets), release.at)


def _utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def last_lines(failed: Failure) -> str:
    """Return the journal's last lines of what failed."""
    # Not by the invocation itself: when journald comes to a process's last words, mostly the reason, that may be gone;
    # such a line has its unit, and no invocation. systemd's own lines about the unit always have it.
    invocation = f"INVOCATION_ID={failed.invocation}"
    times = _journal("--output=json", invocation) if failed.invocation else ""
    first = re.search(r'"__REALTIME_TIMESTAMP" *: *"(\d+)"', times)
    since = [f"--since=@{int(first[1]) / 1e6:.6f}"] if first else []
    return _journal(*RECENT, f"--unit={failed.unit}", *since)


def last_lines_of_the_api() -> str:
    """Return the journal's last lines of the API and its migrations in this boot."""
    return _journal(*RECENT, "--boot", f"--unit={API}", f"--unit={MIGRATIONS}")


def _journal(*arguments: str) -> str:
    """Return lines of the journal; that there are none is no reason not to write."""
    try:
        return run(["journalctl", "--no-pager", *arguments], timeout=30).stdout.rstrip()
    except HostError as error:
        return f"(the journal can't be read: {error})"


# ---- The spool ----


def enqueue(spool: Path, item: Mail | RolledBack) -> None:
    """Put a mail, or a release to be mailed about, on disk, whole; the oldest goes when there are too many."""
    folder = _folder(spool, type(item))
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{item.at:017.3f}-{quote(item.about, safe='')}.json"
    write_whole(folder / name, json.dumps(asdict(item)), mode=0o600)
    for oldest in pending(spool, type(item))[:-MOST]:
        oldest.unlink()


def pending(spool: Path, kind: type = RolledBack) -> list[Path]:
    """Return the items of a kind that wait, the oldest first."""
    return sorted(_folder(spool, kind).glob("*.json"))


def _folder(spool: Path, kind: type) -> Path:
    return spool / ("waiting" if kind is Mail else "rolled-back")


def _read(path: Path, kind: type[Item]) -> Item | None:
    """Return an item of the spool; what is none is removed."""
    try:
        return kind(**json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError):
        log(f"{path} can't be understood: removed")
        path.unlink()
        return None


def due(spool: Path, about: str, at: float) -> tuple[bool, int]:
    """Return whether a unit or release may be written about again, and how often it failed since it was."""
    try:
        last = json.loads(_last_mail(spool, about).read_text("utf-8"))
        sent, withheld = float(last["at"]), int(last["withheld"])
    except (OSError, ValueError, KeyError, TypeError):
        return True, 0
    return not 0 <= at - sent < QUIET, withheld


def remember(spool: Path, about: str, at: float, *, written: bool) -> None:
    """Note that a unit or release was written about, or that it failed within the quiet hour."""
    path = _last_mail(spool, about)
    last = {"at": at, "withheld": -1} if written else json.loads(path.read_text("utf-8"))
    write_whole(path, json.dumps({"at": last["at"], "withheld": last["withheld"] + 1}))


def _last_mail(spool: Path, about: str) -> Path:
    return spool / f"last-mail-{quote(about, safe='')}"


def _enqueue_if_due(spool: Path, about: str, at: float, compose: Callable[[int], Mail]) -> bool:
    """Enqueue what `compose` makes of the number withheld, unless the last mail is too recent; return whether."""
    may, withheld = due(spool, about, at)
    if may:
        enqueue(spool, compose(withheld))
    else:
        log(f"{about}: a mail about it was made within the last hour; this time is counted in the next one")
    return may


def write_about(spool: Path, failed: Failure, who: Sender) -> None:
    """Make a mail about a failure, or count it."""
    written = _enqueue_if_due(
        spool, failed.unit, failed.at, lambda withheld: compose(failed, who, last_lines(failed), withheld)
    )
    remember(spool, failed.unit, failed.at, written=written)


def drain(spool: Path, who: Sender, journal: Callable[[], str]) -> None:
    """Make a mail about each release that was rolled back; each is in one mail, whatever comes between."""
    for path in pending(spool):
        release = _read(path, RolledBack)
        if release:
            compose = partial(compose_rolled_back, release, who, journal())
            # By the same name when it is put a second time: nothing is sent before it is not pending any more.
            written = _enqueue_if_due(spool, release.about, release.at, compose)
            path.unlink()
            remember(spool, release.about, release.at, written=written)


def note_refusal(spool: Path, why: str, at: float) -> None:
    """Note that SES refuses mail, and say so where it is seen without mail."""
    write_whole(spool / REFUSAL, json.dumps({"why": why, "at": at}), mode=0o600)
    log(f"SES refuses mail, and nobody hears of failures: {why}. docs/on-aws.md says what to do", ERROR)


def refused(spool: Path = SPOOL) -> tuple[str, float] | None:
    """Return in which words SES refused the last mail, and when (seconds since 1970); None when it took it."""
    try:
        note = json.loads((spool / REFUSAL).read_text("utf-8"))
        return str(note["why"]), float(note["at"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def check_mail(spool: Path = SPOOL) -> str:
    """SES takes this machine's mail, as far as it was tried."""
    found = refused(spool)
    if found:
        raise HostError(f"SES refused mail at {_utc(found[1])}: {found[0]}; {len(pending(spool, Mail))} wait")
    return ""


def may_ask(spool: Path, at: float) -> bool:
    """Return whether SES may be asked without a new mail: not for a day after it said no."""
    found = refused(spool)
    return found is None or not 0 <= at - found[1] < PAUSE


def send_pending(spool: Path, send: Callable[[Mail], None], at: float) -> int:
    """Send what waits, oldest first, and return how many mails still do; the first that can't be sent ends it."""
    for path in pending(spool, Mail):
        mail = _read(path, Mail)
        if mail is None:
            continue
        if at - mail.at > STALE:
            log(f"not sent for a week, given up: {mail.subject}")
            path.unlink()
            continue
        try:
            send(mail)
        except Refused as error:
            note_refusal(spool, str(error), at)
            break
        except HostError as error:
            log(f"{len(pending(spool, Mail))} mails wait in {spool}, and are tried again every 15 minutes: {error}")
            break
        path.unlink()
        (spool / REFUSAL).unlink(missing_ok=True)
        log(f"sent: {mail.subject}")
    return len(pending(spool, Mail))


def send_by_ses(who: Sender, mail: Mail, place: Path) -> None:
    """Send one mail, which the AWS CLI reads from a file in `place`.

    Raises Refused when SES says no, HostError when it is away, or nobody has said to whom.
    """
    if not who.mail_from or not who.mail_to:
        raise HostError("Parameter Store has not said from whom and to whom (mail-from, mail-to): ./inv account.apply")
    values = {
        "Source": who.mail_from,
        "Destination": {"ToAddresses": [who.mail_to]},
        "Message": {
            "Subject": {"Data": mail.subject, "Charset": "UTF-8"},
            "Body": {"Text": {"Data": mail.text, "Charset": "UTF-8"}},
        },
    }
    # By a file: arguments are everybody's to read.
    file = place / "sending"
    write_whole(file, json.dumps(values), mode=0o600)
    try:
        aws("ses", "send-email", "--cli-input-json", f"file://{file}", region=who.region)
    except HostError as error:
        no = NO.search(str(error))
        if no is None:
            raise
        raise Refused(no[0].replace("when calling the SendEmail operation: ", "")) from error
    finally:
        file.unlink()


def command(arguments: Sequence[str]) -> None:
    """Write a mail about the unit that failed and send it; without a unit, about rolled-back releases, and send all."""
    spool = Path(os.environ.get("STATE_DIRECTORY", str(SPOOL)))
    who = sender(os.environ, RUN / "secrets")
    at = time.time()
    # A new mail is tried whatever SES said of the last one: somebody may have seen to it.
    if not arguments and not pending(spool) and not may_ask(spool, at):
        return
    if not arguments:
        drain(spool, who, last_lines_of_the_api)
    for unit in arguments[:1]:
        write_about(spool, failure(unit, os.environ, at), who)
    # Mail that waits is no failure of this unit: the timer tries again. One sender at a time: two would send the same.
    with locked(spool):
        send_pending(spool, lambda mail: send_by_ses(who, mail, spool), at)
