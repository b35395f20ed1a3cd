"""Whatever a secret holds, each reader gets exactly that back."""

from __future__ import annotations

import hashlib
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from zmanim_host.host import HostError
from zmanim_host.secrets.escaping import environment_line, redis_password_hash, url_part

ANYTHING = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
# What systemd takes a whole file for damaged for (tests/machines asks it).
UNFIT = [*"\0\ufdd0\ufdef\ufffe\uffff", chr(0x1FFFE), chr(0x10FFFF)]
SECRETS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cn"]), max_size=60)
NASTY = "a/b+c=d'e\"f$g\\h%i@j:k?l#m n`o\np\\n${HOME}"


def systemd_reads(text: str) -> dict[str, str]:
    """A model of systemd 252's parser for EnvironmentFile= (env-file.c), for double-quoted values."""
    result: dict[str, str] = {}
    position = 0
    while position < len(text):
        equals = text.index("=", position)
        name = text[position:equals]
        assert text[equals + 1] == '"', "the model reads double-quoted values only"
        position, value = equals + 2, ""
        while text[position] != '"':
            if text[position] == "\\":
                position += 1
                escaped = text[position]
                if escaped in '"\\`$':
                    value += escaped
                elif escaped != "\n":
                    value += "\\" + escaped
            else:
                value += text[position]
            position += 1
        assert text[position + 1] == "\n", "one variable ends its line"
        result[name] = value
        position += 2
    return result


@pytest.mark.incident("unescaped secrets broke sed, SQL and URLs (a / in base64)")
@given(SECRETS, SECRETS)
@example(NASTY, "next")
@example("\\", '"')
@example("", "")
def test_an_environment_file_gives_every_secret_back(first: str, second: str) -> None:
    assert systemd_reads(environment_line("ONE", first) + environment_line("TWO", second)) == {
        "ONE": first,
        "TWO": second,
    }


@pytest.mark.parametrize("unfit", UNFIT, ids=lambda one: f"U+{ord(one):04X}")
def test_a_value_that_no_environment_can_hold_is_refused_without_being_told(unfit: str) -> None:
    with pytest.raises(HostError) as raised:
        environment_line("JWT_SECRET", f"very{unfit}secret")
    assert "JWT_SECRET" in str(raised.value)
    assert "secret" not in str(raised.value).replace("JWT_SECRET", "")


@pytest.mark.incident("unescaped secrets broke sed, SQL and URLs (a / in base64)")
@given(ANYTHING)
@example(NASTY)
def test_an_address_gives_every_password_back(password: str) -> None:
    parts = urlsplit(f"redis://zmanim:{url_part(password)}@127.0.0.1:6379/0")
    assert unquote(parts.password or "", errors="strict") == password
    assert (parts.username, parts.hostname, parts.port, parts.path) == ("zmanim", "127.0.0.1", 6379, "/0")


@given(ANYTHING)
def test_redis_gets_a_hash_in_the_form_that_its_acl_file_takes(password: str) -> None:
    assert redis_password_hash(password) == "#" + hashlib.sha256(password.encode()).hexdigest()
