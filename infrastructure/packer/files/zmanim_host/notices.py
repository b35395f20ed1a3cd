"""Mail about a unit that failed, and about a release of the API that was taken back.

It is put on disk first, sent by SES when that answers, and never twice an hour for one unit or one release. What goes
into it from the journal is cleared of secrets: their values, wherever this machine has them, and whatever looks like
one.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote

from zmanim_host.host import RUN, HostError, log, run, write_whole
from zmanim_host.secrets.secret_files import FIXED

SPOOL = Path("/var/lib/zmanim-notices")
BAKED = Path("/opt/zmanim/baked")
# What a release that is taken back may have said last.
API_UNITS = ("zmanim-api.service", "zmanim-migrate.service")
LINES = 50
# Seconds in which a unit is written about once.
QUIET = 3600.0
# A mail of a week ago helps nobody; and a spool has to end somewhere.
STALE = 7 * 86400.0
MOST = 50
REDACTED = "[redacted]"
# No word that short is a secret, and clearing it would make the mail unreadable.
SHORTEST = 6

_LOOKS_SECRET = (
    # user:password@ in an address
    (re.compile(r"(?<=://)([^/\s:@]*):([^@\s]+)@"), rf"\1:{REDACTED}@"),
    # AWS's key ids, and what follows a word that promises a secret
    (re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"), REDACTED),
    (re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9+/=._~-]{8,}"), rf"\1 {REDACTED}"),
    (
        re.compile(
            r"(?i)([\w.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|auth)[\w.-]*[\"']?\s*[=:]\s*)"
            r"(\"[^\"]*\"|'[^']*'|[^\s,;]+)"
        ),
        rf"\1{REDACTED}",
    ),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), REDACTED),
    # three parts with dots: a JSON web token
    (re.compile(r"\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"), REDACTED),
)


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
class TakenBack:
    """A release that was taken back, and the version that is in force instead; `at` is seconds since 1970."""

    version: str
    instead: str
    why: str
    at: float

    @property
    def about(self) -> str:
        """What the quiet hour counts: two releases that are taken back within an hour are two mails."""
        return f"release {self.version}"


@dataclass(frozen=True)
class Notice:
    """A mail that waits to be sent."""

    unit: str
    subject: str
    text: str
    at: float


@dataclass(frozen=True)
class Sender:
    """Who mails to whom, and about which machine."""

    environment: str
    region: str
    instance: str
    image: str
    mail_from: str
    mail_to: str


def sender(environ: Mapping[str, str]) -> Sender:
    """Return who sends; HostError names what is missing."""
    names = ("ZMANIM_ENVIRONMENT", "AWS_REGION", "INSTANCE_ID", "MAIL_FROM", "MAIL_TO")
    missing = [name for name in names if not environ.get(name)]
    if missing:
        raise HostError(f"the environment variables {', '.join(missing)} are missing")
    environment, region, instance, mail_from, mail_to = (environ[name] for name in names)
    image = Path(os.path.realpath(BAKED)).name
    return Sender(environment, region, instance, image, mail_from, mail_to)


def failure(unit: str, environ: Mapping[str, str], at: float) -> Failure:
    """Return the failure that systemd tells of in $MONITOR_*."""
    told = {name: environ.get(f"MONITOR_{name}", "unknown") for name in ("SERVICE_RESULT", "EXIT_CODE", "EXIT_STATUS")}
    invocation = environ.get("MONITOR_INVOCATION_ID", "")
    return Failure(unit, told["SERVICE_RESULT"], told["EXIT_CODE"], told["EXIT_STATUS"], invocation, at)


# ---- What a mail says ----


def secret_values(directory: Path) -> set[str]:
    """Return every secret that this machine has: each file below `directory`, and each value in an environment file."""
    found: set[str] = set()
    for path in directory.rglob("*") if directory.is_dir() else []:
        if not path.is_file():
            continue
        text = path.read_text("utf-8", "replace")
        if path.suffix == ".env":
            # As escaping.environment_line writes them: NAME="value", with backslashes.
            values = re.findall(r'^\w+="((?:[^"\\]|\\.)*)"$', text, re.MULTILINE | re.DOTALL)
            found.update(re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL) for value in values)
            found.update(password for value in values for password in re.findall(r"://[^/\s:@]*:([^@\s]+)@", value))
        else:
            found.update(text.split() if path.suffix == ".acl" else [text])
    found = {value.strip() for value in found}
    found |= {quote(value, safe="") for value in found}
    return {value for value in found if len(value) >= SHORTEST} - _HARMLESS


# What these files hold beside secrets: the mail would be full of holes.
_HARMLESS = {*FIXED.values(), "default", "zmanim", "backup"}


def redact(text: str, values: Iterable[str]) -> str:
    """Return `text` without these values and without what looks like a secret."""
    # The longest first: one may be a part of another.
    for value in sorted(values, key=len, reverse=True):
        text = text.replace(value, REDACTED)
    for pattern, instead in _LOOKS_SECRET:
        text = pattern.sub(instead, text)
    return text


def compose(failed: Failure, who: Sender, journal: str, secrets: Iterable[str], withheld: int) -> Notice:
    """Return the mail about a failure; `withheld` earlier ones of the same unit were not written about."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(failed.at))
    more = f"\nSince the last mail about it, it has failed {withheld} times more.\n" if withheld else ""
    text = f"""{failed.unit} failed at {when}.

Environment:   {who.environment} ({who.instance}, {who.region})
Image:         {who.image}
Result:        {failed.result}
Exit code:     {failed.code} {failed.status}
{more}
Its last lines in the journal (more: journalctl --unit {failed.unit}):

{journal}
"""
    subject = f"zmanim {who.environment}: {failed.unit} failed"
    return Notice(failed.unit, subject, redact(text, secrets), failed.at)


def compose_taken_back(what: TakenBack, who: Sender, journal: str, secrets: Iterable[str], withheld: int) -> Notice:
    """Return the mail about a release that was taken back, `withheld` times more since the last mail about it."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(what.at))
    more = f"\nSince the last mail about it, it was taken back {withheld} times more.\n" if withheld else ""
    text = f"""{what.version} was taken back at {when}: {what.why}.

Runs now:      {what.instead}
Environment:   {who.environment} ({who.instance}, {who.region})
Image:         {who.image}
{more}
This machine does not try {what.version} again. Publish a newer release, or roll the channel back.

The last lines of the API and its migrations in the journal:

{journal}
"""
    subject = f"zmanim {who.environment}: {what.version} was taken back, {what.instead} runs"
    return Notice(what.about, subject, redact(text, secrets), what.at)


def last_lines(failed: Failure) -> str:
    """Return the journal's last lines of what failed; that there are none is no reason not to write."""
    try:
        return _journal(f"--unit={failed.unit}", *_since(failed))
    except HostError as error:
        return f"(the journal can't be read: {error})"


def last_lines_of_the_api() -> str:
    """Return the journal's last lines of the API and its migrations in this boot, as `last_lines` does."""
    try:
        return _journal("--boot", *(f"--unit={unit}" for unit in API_UNITS))
    except HostError as error:
        return f"(the journal can't be read: {error})"


def _journal(*which: str) -> str:
    command = ["journalctl", "--no-pager", "--all", f"--lines={LINES}", "--output=short-iso", "--utc"]
    return run([*command, *which], timeout=30).stdout.rstrip()


def _since(failed: Failure) -> list[str]:
    # Not by the invocation itself: when journald comes to a process's last words, mostly the reason, that may be gone;
    # such a line has its unit, and no invocation. systemd's own lines about the unit always have it.
    command = ["journalctl", "--no-pager", "--output=json", f"INVOCATION_ID={failed.invocation}"]
    first = run(command, timeout=30).stdout.partition("\n")[0] if failed.invocation else ""
    return [f"--since=@{int(json.loads(first)['__REALTIME_TIMESTAMP']) / 1e6:.6f}"] if first else []


# ---- The spool ----

_TAKEN_BACK = "taken-back"


def due(spool: Path, unit: str, at: float) -> tuple[bool, int]:
    """Return whether a unit may be written about again, and how often it failed since it was."""
    try:
        told = json.loads(_told(spool, unit).read_text("utf-8"))
        last, withheld = float(told["at"]), int(told["withheld"])
    except (OSError, ValueError, KeyError, TypeError):
        return True, 0
    return not 0 <= at - last < QUIET, withheld


def remember(spool: Path, unit: str, at: float, *, written: bool) -> None:
    """Note that a unit was written about, or that it failed within the quiet hour."""
    if written:
        write_whole(_told(spool, unit), json.dumps({"at": at, "withheld": 0}))
        return
    told = json.loads(_told(spool, unit).read_text("utf-8"))
    write_whole(_told(spool, unit), json.dumps({"at": told["at"], "withheld": told["withheld"] + 1}))


def _told(spool: Path, unit: str) -> Path:
    return spool / f"told-{quote(unit, safe='')}"


def put(spool: Path, notice: Notice) -> None:
    """Write a mail to the spool, whole; the oldest goes when there are too many."""
    (spool / "waiting").mkdir(mode=0o700, exist_ok=True)
    name = f"{notice.at:017.3f}-{quote(notice.unit, safe='')}.json"
    write_whole(spool / "waiting" / name, json.dumps(asdict(notice)), mode=0o600)
    for old in waiting(spool)[:-MOST]:
        old.unlink()


def waiting(spool: Path) -> list[Path]:
    """Return the mails that wait, the oldest first."""
    return sorted((spool / "waiting").glob("*.json"))


def leave(spool: Path, what: TakenBack) -> None:
    """Leave on disk that a release was taken back, for those who mail; raises OSError."""
    folder = spool / _TAKEN_BACK
    folder.mkdir(mode=0o700, exist_ok=True)
    write_whole(folder / f"{what.at:017.3f}-{what.version}.json", json.dumps(asdict(what)), mode=0o600)


def left(spool: Path) -> list[Path]:
    """Return what was left and is not in a mail yet, the oldest first."""
    return sorted((spool / _TAKEN_BACK).glob("*.json"))


def take_up(spool: Path, who: Sender, journal: Callable[[], str], secrets: Iterable[str]) -> None:
    """Put a mail into the spool about each release that was taken back; each is in one mail, whatever comes between."""
    for path in left(spool):
        try:
            what = TakenBack(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError):
            log(f"{path} tells of no release: removed")
            path.unlink()
            continue
        may, withheld = due(spool, what.about, what.at)
        if may:
            # By the same name when it is put a second time: nothing is sent before it is not left any more.
            put(spool, compose_taken_back(what, who, journal(), secrets, withheld))
        else:
            log(f"{what.version} was written about within the hour: this time is counted in the next mail")
        path.unlink()
        remember(spool, what.about, what.at, written=may)


@contextmanager
def alone(spool: Path) -> Iterator[None]:
    """Keep others out who send: two at one time would send the same mail."""
    descriptor = os.open(spool, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def flush(spool: Path, send: Callable[[Notice], None], at: float) -> int:
    """Send what waits, oldest first, and return how many mails still do; the first that can't be sent ends it."""
    for path in waiting(spool):
        try:
            notice = Notice(**json.loads(path.read_text("utf-8")))
        except (ValueError, TypeError):
            log(f"{path} is no mail: removed")
            path.unlink()
            continue
        if at - notice.at > STALE:
            log(f"not sent for a week, given up: {notice.subject}")
            path.unlink()
            continue
        try:
            send(notice)
        except HostError as error:
            log(f"{len(waiting(spool))} mails wait in {spool}, and are tried again every 15 minutes: {error}")
            break
        path.unlink()
        log(f"sent: {notice.subject}")
    return len(waiting(spool))


def send_by_ses(who: Sender, notice: Notice, place: Path) -> None:
    """Send one mail, which the AWS CLI reads from a file in `place`; HostError when SES does not take it."""
    mail = {
        "Source": who.mail_from,
        "Destination": {"ToAddresses": [who.mail_to]},
        "Message": {
            "Subject": {"Data": notice.subject, "Charset": "UTF-8"},
            "Body": {"Text": {"Data": notice.text, "Charset": "UTF-8"}},
        },
    }
    command = ["aws", "ses", "send-email", "--region", who.region, "--no-cli-pager", "--output", "text"]
    # By a file: arguments are everybody's to read.
    file = place / "sending"
    write_whole(file, json.dumps(mail), mode=0o600)
    command += ["--cli-connect-timeout", "5", "--cli-read-timeout", "15", "--cli-input-json", f"file://{file}"]
    try:
        run(command, timeout=60, environment={"HOME": "/nonexistent", "AWS_MAX_ATTEMPTS": "2"})
    finally:
        file.unlink()


def command(arguments: Sequence[str]) -> None:
    """Write a mail about the unit that failed and send it; without a unit, about what was left, and send what waits."""
    spool = Path(os.environ.get("STATE_DIRECTORY", str(SPOOL)))
    who = sender(os.environ)
    at = time.time()
    secrets = secret_values(RUN / "secrets")
    if not arguments:
        take_up(spool, who, last_lines_of_the_api, secrets)
    for unit in arguments[:1]:
        failed = failure(unit, os.environ, at)
        may, withheld = due(spool, unit, at)
        if may:
            put(spool, compose(failed, who, last_lines(failed), secrets, withheld))
        else:
            log(f"{unit} was written about within the hour: this failure is counted in the next mail")
        remember(spool, unit, at, written=may)
    # Mail that waits is no failure of this unit: the timer tries again.
    with alone(spool):
        flush(spool, lambda notice: send_by_ses(who, notice, spool), at)
