"""No mail holds a secret of this machine, nor what looks like one; what is neither stays readable."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_host.secrets import redaction
from zmanim_host.secrets.escaping import environment_line
from zmanim_host.secrets.redaction import redact


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
    assert redaction.REDACTED in cleared


@given(st.text(min_size=redaction.SHORTEST, max_size=40), st.text(max_size=60), st.text(max_size=60))
def test_a_secret_of_this_machine_is_cleared_wherever_it_stands(value: str, before: str, after: str) -> None:
    if value in redaction.REDACTED:
        return
    assert value not in redact(before + value + after, [value]).replace(redaction.REDACTED, "\0")


# White space at an end is taken off, and what is too short then is not looked for; nor is a word that every machine has
# ("0.0.0.0", which hypothesis does find).
nasty = st.text(
    st.characters(min_codepoint=33, max_codepoint=0x2FF),
    min_size=redaction.SHORTEST,
    max_size=30,
).filter(lambda value: len(value.strip()) >= redaction.SHORTEST and value not in redaction._HARMLESS)


@given(nasty)
def test_every_secret_on_tmpfs_is_known_as_it_stands_and_as_an_address_has_it(value: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        (directory / "backup").mkdir()
        (directory / "backup/restic-password").write_text(value + "\n")
        (directory / "api.env").write_text(environment_line("JWT_SECRET", value + "2"))
        result = redaction.secret_values(directory)
    assert {value.strip(), f"{value}2".strip()} <= result


def test_ordinary_lines_stay_readable() -> None:
    line = 'the database zmanim can\'t be read: ERROR: relation "cities" does not exist (run 20261124T143311Z-51bbff)'
    assert redact(line, ()) == line
