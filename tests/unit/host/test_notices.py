"""The mail about a failure: what it says, what it must not say, and that it is neither lost nor sent without end."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.programs import arguments, on_path
from zmanim_host import notices
from zmanim_host.host import HostError
from zmanim_host.notices import (
    Failure,
    Mail,
    RolledBack,
    Sender,
    compose,
    compose_rolled_back,
    due,
    enqueue,
    pending,
    remember,
    send_pending,
    write_about,
)

WHO = Sender("prod", "eu-west-1", "i-1", "v1.2.3", "from@x", "to@x")
ROLLED_BACK = RolledBack("v1.2.4", "v1.2.3", "/health answers 503", 1_800_000_000.0)
FAILED = Failure("restic-backup.service", "exit-code", "exited", "1", "abcd", 1_800_000_000.0)


def test_a_mail_says_what_failed_where_how_and_with_which_words() -> None:
    mail = compose(FAILED, WHO, "line 1\nline 2", 3)
    assert mail.subject == "zmanim prod: restic-backup.service failed"
    for word in ("2027-01-15T08:00:00Z", "prod (i-1, eu-west-1)", "v1.2.3", "exit-code", "exited 1", "line 1\nline 2"):
        assert word in mail.text
    assert "failed 3 times more" in mail.text
    assert "times more" not in compose(FAILED, WHO, "", 0).text


def test_a_second_failure_within_the_hour_is_counted_and_not_mailed(tmp_path: Path) -> None:
    unit = "restic-backup.service"
    assert due(tmp_path, unit, 1000) == (True, 0)
    remember(tmp_path, unit, 1000, written=True)
    assert due(tmp_path, unit, 1000 + notices.QUIET - 1) == (False, 0)
    remember(tmp_path, unit, 2000, written=False)
    remember(tmp_path, unit, 3000, written=False)
    assert due(tmp_path, unit, 1000 + notices.QUIET) == (True, 2)
    assert due(tmp_path, "another.service", 1001) == (True, 0)
    # A clock that was set back silences nothing.
    assert due(tmp_path, unit, 500) == (True, 2)


def test_a_failure_within_the_hour_is_in_the_next_mail_s_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path / "programs", monkeypatch, {"journalctl": "true"})
    for later in (0, 60, notices.QUIET):
        write_about(tmp_path, replace(FAILED, at=FAILED.at + later), WHO)
    first, second = (json.loads(path.read_text())["text"] for path in pending(tmp_path, Mail))
    assert "times more" not in first
    assert "failed 1 times more" in second


def test_mail_waits_on_disk_until_ses_takes_it_and_goes_in_its_order(tmp_path: Path) -> None:
    sent: list[str] = []
    away = True

    def send(mail: Mail) -> None:
        if away:
            raise HostError("SES is away")
        sent.append(mail.subject)

    enqueue(tmp_path, Mail("b.service", "second", "", 200.0))
    enqueue(tmp_path, Mail("a.service", "first", "", 100.0))
    assert send_pending(tmp_path, send, 300.0) == 2
    away = False
    assert send_pending(tmp_path, send, 300.0) == 0
    assert sent == ["first", "second"]
    assert send_pending(tmp_path, send, 300.0) == 0
    assert sent == ["first", "second"]


def test_the_spool_ends_somewhere(tmp_path: Path) -> None:
    for number in range(notices.MOST + 5):
        enqueue(tmp_path, Mail("a.service", str(number), "", float(number)))
    assert len(pending(tmp_path, Mail)) == notices.MOST
    (tmp_path / "waiting/0-torn.json").write_text("{")
    sent: list[str] = []
    assert send_pending(tmp_path, lambda mail: sent.append(mail.subject), notices.STALE + 20) == 0
    assert sent[0] == "20"


@pytest.mark.incident("a bad release was rolled back at night, and nobody heard of it")
def test_a_mail_says_which_release_was_rolled_back_what_runs_and_why() -> None:
    who = replace(WHO, secrets=frozenset({"abc123xyz"}))
    mail = compose_rolled_back(ROLLED_BACK, who, "panic: token=hunter22 of abc123xyz", 2)
    assert mail.subject == "zmanim prod: v1.2.4 was rolled back, v1.2.3 runs"
    assert "v1.2.4 was rolled back at 2027-01-15T08:00:00Z: /health answers 503." in mail.text
    for word in ("Runs now:      v1.2.3", "prod (i-1, eu-west-1)", "rolled back 2 times more", "panic: token="):
        assert word in mail.text
    assert "hunter22" not in mail.text
    assert "abc123xyz" not in mail.text
    assert "times more" not in compose_rolled_back(ROLLED_BACK, WHO, "", 0).text


def drain(spool: Path) -> None:
    notices.drain(spool, WHO, lambda: "its last words")


def test_each_release_that_was_rolled_back_is_in_one_mail(tmp_path: Path) -> None:
    sent: list[str] = []
    enqueue(tmp_path, ROLLED_BACK)
    later = ROLLED_BACK.at + 60
    enqueue(tmp_path, RolledBack("v1.2.5", "v1.2.3", "its migration failed", later))
    for _ in range(2):
        drain(tmp_path)
        send_pending(tmp_path, lambda mail: sent.append(mail.subject), later)
    # Two releases within the hour are two mails: of the second nobody would hear for as long as none follows.
    assert sent == [
        "zmanim prod: v1.2.4 was rolled back, v1.2.3 runs",
        "zmanim prod: v1.2.5 was rolled back, v1.2.3 runs",
    ]
    # The same one again, after an operator allowed it, is counted.
    enqueue(tmp_path, RolledBack("v1.2.4", "v1.2.3", "again", later))
    drain(tmp_path)
    assert (pending(tmp_path, Mail), pending(tmp_path)) == ([], [])
    assert due(tmp_path, "release v1.2.4", later + notices.QUIET) == (True, 1)


def test_a_power_cut_while_the_mail_is_put_makes_no_second_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    enqueue(tmp_path, ROLLED_BACK)

    def cut(path: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", lambda path, missing_ok=False: cut(path) if not missing_ok else None)
        with pytest.raises(KeyboardInterrupt):
            drain(tmp_path)
    assert (len(pending(tmp_path, Mail)), len(pending(tmp_path))) == (1, 1)
    drain(tmp_path)
    assert (len(pending(tmp_path, Mail)), len(pending(tmp_path))) == (1, 0)


def test_a_note_that_is_none_is_in_nobody_s_way(tmp_path: Path) -> None:
    enqueue(tmp_path, ROLLED_BACK)
    (tmp_path / "rolled-back/0-torn.json").write_text('{"version": "v1"}')
    drain(tmp_path)
    assert (len(pending(tmp_path, Mail)), pending(tmp_path)) == (1, [])


def test_the_journal_of_the_api_and_its_migrations_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path(tmp_path, monkeypatch, {"journalctl": "echo said"})
    assert notices.last_lines_of_the_api() == "said"
    (calls,) = arguments(tmp_path, "journalctl")
    assert {"--boot", "--unit=zmanim-api.service", "--unit=zmanim-migrate.service"} <= set(calls)


def test_what_is_pending_is_sent_and_by_one_sender_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    # It keeps the mail, and says whether anybody else could send now.
    keep = 'for word; do case $word in file://*) cp "${word#file://}" "${HERE}/mail";; esac; done'
    alone = f'flock --nonblock {spool} true && touch "${{HERE}}/not-alone"; true'
    on_path(tmp_path / "programs", monkeypatch, {"journalctl": "echo its last words", "aws": f"{keep}\n{alone}"})
    settings = {"ZMANIM_ENVIRONMENT": "prod", "AWS_REGION": "eu-west-1", "INSTANCE_ID": "i-1"}
    for name, value in {**settings, "MAIL_FROM": "a@x", "MAIL_TO": "b@x", "STATE_DIRECTORY": str(spool)}.items():
        monkeypatch.setenv(name, value)
    enqueue(spool, RolledBack("v1.2.4", "v1.2.3", "it ended by itself 3 times", time.time()))
    notices.command([])
    notices.command([])
    assert len(arguments(tmp_path / "programs", "aws")) == 1
    text = json.loads((tmp_path / "programs/mail").read_text())["Message"]["Body"]["Text"]["Data"]
    assert "it ended by itself 3 times" in text
    assert "its last words" in text
    assert not (tmp_path / "programs/not-alone").exists()


def test_a_mail_waits_as_long_as_nobody_has_said_to_whom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spool = tmp_path / "spool"
    spool.mkdir()
    on_path(tmp_path / "programs", monkeypatch, {"journalctl": "echo its last words", "aws": "true"})
    settings = {"ZMANIM_ENVIRONMENT": "prod", "AWS_REGION": "eu-west-1", "INSTANCE_ID": "i-1"}
    for name, value in {**settings, "STATE_DIRECTORY": str(spool)}.items():
        monkeypatch.setenv(name, value)
    notices.command(["restic-backup.service"])
    assert len(pending(spool, Mail)) == 1
    assert "mail-from, mail-to" in capsys.readouterr().err
    monkeypatch.setenv("MAIL_FROM", "a@x")
    monkeypatch.setenv("MAIL_TO", "b@x")
    notices.command([])
    assert pending(spool, Mail) == []


@pytest.mark.incident("journald did not know any more whose last words they were, and the mail lacked the reason")
def test_the_journal_is_asked_by_the_unit_s_name_from_the_failed_start_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "journalctl"
    output = '{"__REALTIME_TIMESTAMP": "1795547680400881"}'
    fake.write_text(
        f"#!/bin/sh\ncase $* in *' INVOCATION_ID=abcd') echo '{output}'; echo '{{}}';; *) echo \"$@\";; esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    calls = notices.last_lines(FAILED).split()
    assert {"--unit=restic-backup.service", "--since=@1795547680.400881"} <= set(calls)
    assert not any("INVOCATION" in word for word in calls)
    unknown = Failure("a.service", "unknown", "unknown", "unknown", "", 0.0)
    assert not any(word.startswith("--since") for word in notices.last_lines(unknown).split())
    fake.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    assert notices.last_lines(FAILED).startswith("(the journal can't be read: ")


# What the AWS CLI says, with its exit code, for a recipient that nobody verified while the account is in the sandbox.
REJECTED = (
    "An error occurred (MessageRejected) when calling the SendEmail operation: Email address is not verified. The"
    " following identities failed the check in region EU-WEST-1: to@x"
)
AWAY = 'Could not connect to the endpoint URL: "https://email.eu-west-1.amazonaws.com/"'


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (REJECTED, True),
        ("An error occurred (AccessDenied) when calling the SendEmail operation: User: x is not authorized", True),
        (AWAY, False),
        ("An error occurred (Throttling) when calling the SendEmail operation: Maximum sending rate exceeded.", False),
        ("An error occurred (ServiceUnavailable) when calling the SendEmail operation (reached max retries: 1)", False),
    ],
)
def test_ses_that_says_no_is_told_apart_from_ses_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: str, refused: bool
) -> None:
    (tmp_path / "words").write_text(words)
    on_path(tmp_path / "programs", monkeypatch, {"aws": f"cat {tmp_path}/words >&2; exit 254"})
    with pytest.raises(HostError) as error:
        notices.send_by_ses(WHO, Mail("a.service", "subject", "text", 1.0), tmp_path)
    assert isinstance(error.value, notices.Refused) is refused
    assert not (tmp_path / "sending").exists()


@pytest.mark.incident("mail to an address that nobody had verified was tried every quarter of an hour, for a week")
def test_refused_mail_is_told_where_it_is_seen_and_asked_about_once_a_day(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(mail: Mail) -> None:
        raise notices.Refused("(MessageRejected) Email address is not verified: to@x")

    assert notices.check_mail(tmp_path) == ""
    enqueue(tmp_path, Mail("a.service", "first", "", 100.0))
    enqueue(tmp_path, Mail("b.service", "second", "", 200.0))
    assert send_pending(tmp_path, refuse, 300.0) == 2
    assert "SES refuses mail, and nobody hears of failures: (MessageRejected)" in capsys.readouterr().err
    with pytest.raises(HostError, match=r"SES refused mail at 1970-01-01T00:05:00Z: .*to@x; 2 wait"):
        notices.check_mail(tmp_path)
    assert notices.may_ask(tmp_path, 300.0 + notices.PAUSE - 1) is False
    assert notices.may_ask(tmp_path, 300.0 + notices.PAUSE) is True
    # A clock that was set back silences nothing.
    assert notices.may_ask(tmp_path, 200.0) is True
    sent: list[str] = []
    assert send_pending(tmp_path, lambda mail: sent.append(mail.subject), 400.0) == 0
    assert sent == ["first", "second"]
    assert (notices.refused(tmp_path), notices.check_mail(tmp_path)) == (None, "")


def test_the_timer_leaves_ses_alone_that_has_said_no_and_a_new_mail_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool, words = tmp_path / "spool", tmp_path / "words"
    spool.mkdir()
    words.write_text(REJECTED)
    here = on_path(tmp_path / "programs", monkeypatch, {"journalctl": "true", "aws": f"cat {words} >&2; exit 254"})
    settings = {"ZMANIM_ENVIRONMENT": "prod", "AWS_REGION": "eu-west-1", "INSTANCE_ID": "i-1"}
    for name, value in {**settings, "MAIL_FROM": "a@x", "MAIL_TO": "b@x", "STATE_DIRECTORY": str(spool)}.items():
        monkeypatch.setenv(name, value)
    notices.command(["restic-backup.service"])
    for _ in range(5):
        notices.command([])
    assert len(arguments(here, "aws")) == 1
    notices.command(["backup-drill.service"])
    assert len(arguments(here, "aws")) == 2
    # A release that was rolled back is a new mail as well.
    enqueue(spool, RolledBack("v1.2.4", "v1.2.3", "it ended by itself 3 times", time.time()))
    notices.command([])
    assert len(arguments(here, "aws")) == 3
    assert len(pending(spool, Mail)) == 3
