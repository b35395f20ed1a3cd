"""SQL of others is taken apart as PostgreSQL would, and what is written anew means just what it says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_host.backup.sql_text import NAME, NUMBER, SIGN, TEXT, WORD, Token, identifier, literal, render, statements
from zmanim_host.backup.sql_text import tokens as tokenized
from zmanim_host.host import HostError

# Whatever a name or a text can be, and what would end one.
ANY = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40) | st.text(
    "'\"\\$;-/*\n ab", max_size=40
)
ARGUMENT = st.one_of(
    ANY.filter(bool).map(lambda text: Token(NAME, text)),
    ANY.map(lambda text: Token(TEXT, text)),
    st.sampled_from([Token(WORD, "table"), Token(NUMBER, "12"), Token(SIGN, "("), Token(SIGN, ","), Token(SIGN, ".")]),
)


@given(ANY.filter(bool))
def test_a_quoted_name_is_one_name_again(name: str) -> None:
    assert list(tokenized(identifier(name))) == [Token(NAME, name)]


@given(ANY)
def test_a_quoted_text_is_one_text_again(text: str) -> None:
    assert list(tokenized(literal(text))) == [Token(TEXT, text)]


@given(ANY)
def test_a_quoted_text_means_the_same_where_backslashes_are_escapes_in_any_text(text: str) -> None:
    # standard_conforming_strings = off makes every text one of these: a backslash is in none but where E says so.
    quoted = literal(text)
    assert quoted.startswith(" E'") or "\\" not in quoted


@given(st.lists(ARGUMENT, max_size=8))
def test_what_is_rendered_is_the_same_statement_and_never_two(tokens: list[Token]) -> None:
    assert statements(render(tokens) + ";") == ([tuple(tokens)] if tokens else [])


@given(st.text("ab'\"\\$;-/*\n E(", max_size=60))
def test_any_script_is_understood_or_refused(script: str) -> None:
    try:
        found = statements(script)
    except HostError:
        return
    assert all(Token(SIGN, ";") not in statement for statement in found)


@pytest.mark.parametrize("token", [Token(SIGN, ";"), Token(SIGN, "\\"), Token(SIGN, "!")])
def test_a_statement_is_never_ended_by_a_token(token: Token) -> None:
    with pytest.raises(HostError, match="none of its kind does"):
        render([Token(WORD, "grant"), token])


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_what_can_be_no_name_is_refused(name: str) -> None:
    with pytest.raises(HostError, match="is no name"):
        identifier(name)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("SELECT 'a;b'; SELECT 2;", [["select", "a;b"], ["select", "2"]]),
        ("-- a; comment\nSELECT /* ; /* nested */ ; */ 1;", [["select", "1"]]),
        ("""ALTER TABLE "A "" B".t OWNER TO x;""", [["alter", "table", 'A " B', ".", "t", "owner", "to", "x"]]),
        ("SELECT $$ ; $x$ ; $$, $x$ $$ ; $x$;", [["select", " ; $x$ ; ", ",", " $$ ; "]]),
        (r"SELECT E'it\'s; \\', E'\x41\101\u00e4\n';", [["select", "it's; \\", ",", "AA\u00e4\n"]]),
        (
            "\\restrict abc\nSELECT 1;\n\\connect zmanim\nSELECT 2;\n\\unrestrict abc\n",
            [["select", "1"], ["select", "2"]],
        ),
        (
            "CREATE FUNCTION f() BEGIN ATOMIC SELECT 1; SELECT 2; END; SELECT 3;",
            [
                ["create", "function", "f", "(", ")", "begin", "atomic", "select", "1", ";", "select", "2", ";", "end"],
                ["select", "3"],
            ],
        ),
    ],
)
def test_a_script_falls_into_its_statements(script: str, expected: list[list[str]]) -> None:
    assert [[token.value for token in statement] for statement in statements(script)] == expected


@pytest.mark.parametrize("script", ["SELECT 'a", "SELECT $$ a", "/* a", "SELECT 1", 'SELECT "', "SELECT ''';"])
def test_a_script_that_ends_within_something_is_refused(script: str) -> None:
    with pytest.raises(HostError):
        statements(script)
