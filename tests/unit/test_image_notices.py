"""The mail about a failure: what it says, what it must not say, and that it is neither lost nor sent without end."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zmanim_host import notices
from zmanim_host.escaping import environment_line
from zmanim_host.host import HostFault
from zmanim_host.notices import Failure, Notice, Sender, compose, due, flush, put, redact, remember, waiting

WHO = Sender("prod", "eu-west-1", "i-1", "v1.2.3", "from@x", "to@x")
FAILED = Failure("restic-backup.service", "exit-code", "exited", "1", "abcd", 1_800_000_000.0)


def test_a_mail_says_what_failed_where_how_and_with_which_words() -> None:
    mail = compose(FAILED, WHO, "line 1\nline 2", (), 3)
    assert mail.subject == "zmanim prod: restic-backup.service failed"
    for word in ("2027-01-15T08:00:00Z", "prod (i-1, eu-west-1)", "v1.2.3", "exit-code", "exited 1", "line 1\nline 2"):
        assert word in mail.text
    assert "failed 3 times more" in mail.text
    assert "times more" not in compose(FAILED, WHO, "", (), 0).text


@pytest.mark.incident("a boot script printed secrets into logs that were shipped to CloudWatch")
@pytest.mark.parametrize(
    "line",
    [
        "redis://zmanim:hunter22@127.0.0.1:6379/0",
        "PGPASSWORD=hunter22 psql",
        'password: "hunter22"',
        "restic_password = hunter22",
        "Authorization: Bearer hunter22hunter22",
        "X-Api-Key=hunter22",
        "token=hunter22, and so on",
        "JWT_SECRET='hunter22'",
        '{"clerk-secret-key": "hunter22"}',
        "AKIAhunter22".replace("hunter22", "ABCDEFGHIJKLMNOP"),
    ],
)
def test_what_looks_like_a_secret_is_cleared(line: str) -> None:
    cleared = redact(line, ())
    assert "hunter22" not in cleared
    assert "ABCDEFGHIJKLMNOP" not in cleared
    assert notices.REDACTED in cleared


@given(st.text(min_size=notices.SHORTEST, max_size=40), st.text(max_size=60), st.text(max_size=60))
def test_a_secret_of_this_machine_is_cleared_wherever_it_stands(value: str, before: str, after: str) -> None:
    if value in notices.REDACTED:
        return
    assert value not in redact(before + value + after, [value]).replace(notices.REDACTED, "\0")


# White space at an end is taken off, and what is too short then is not looked for; nor is a word that every machine has
# ("0.0.0.0", which hypothesis does find).
nasty = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF),
    min_size=notices.SHORTEST,
    max_size=30,
).filter(lambda value: len(value.strip()) >= notices.SHORTEST and value not in notices._HARMLESS)


@given(nasty)
def test_every_secret_on_tmpfs_is_known_as_it_stands_and_as_an_address_has_it(value: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "backup").mkdir()
        (directory / "backup/restic-password").write_text(value + "\n")
        (directory / "api.env").write_text(environment_line("JWT_SECRET", value + "2"))
        found = notices.secret_values(directory)
    assert {value.strip(), f"{value}2".strip()} <= found


def test_ordinary_lines_stay_readable() -> None:
    line = 'the database zmanim can\'t be read: ERROR: relation "cities" does not exist (run 20261124T143311Z-51bbff)'
    assert redact(line, ()) == line


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


def test_mail_waits_on_disk_until_ses_takes_it_and_goes_in_its_order(tmp_path: Path) -> None:
    sent: list[str] = []
    away = True

    def send(notice: Notice) -> None:
        if away:
            raise HostFault("SES is away")
        sent.append(notice.subject)

    put(tmp_path, Notice("b.service", "second", "", 200.0))
    put(tmp_path, Notice("a.service", "first", "", 100.0))
    assert flush(tmp_path, send, 300.0) == 2
    away = False
    assert flush(tmp_path, send, 300.0) == 0
    assert sent == ["first", "second"]
    assert flush(tmp_path, send, 300.0) == 0
    assert sent == ["first", "second"]


def test_the_spool_ends_somewhere(tmp_path: Path) -> None:
    for number in range(notices.MOST + 5):
        put(tmp_path, Notice("a.service", str(number), "", float(number)))
    assert len(waiting(tmp_path)) == notices.MOST
    (tmp_path / "waiting/0-torn.json").write_text("{")
    sent: list[str] = []
    assert flush(tmp_path, lambda notice: sent.append(notice.subject), notices.STALE + 20) == 0
    assert sent[0] == "20"


@pytest.mark.incident("journald did not know any more whose last words they were, and the mail lacked the reason")
def test_the_journal_is_asked_by_the_unit_s_name_from_the_failed_start_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = tmp_path / "journalctl"
    told = '{"__REALTIME_TIMESTAMP": "1795547680400881"}'
    fake.write_text(
        f"#!/bin/sh\ncase $* in *' INVOCATION_ID=abcd') echo '{told}'; echo '{{}}';; *) echo \"$@\";; esac\n"
    )
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    asked = notices.last_lines(FAILED).split()
    assert {"--unit=restic-backup.service", "--since=@1795547680.400881"} <= set(asked)
    assert not any("INVOCATION" in word for word in asked)
    unknown = Failure("a.service", "unknown", "unknown", "unknown", "", 0.0)
    assert not any(word.startswith("--since") for word in notices.last_lines(unknown).split())
    fake.write_text("#!/bin/sh\necho broken >&2; exit 1\n")
    assert notices.last_lines(FAILED).startswith("(the journal can't be read: ")
