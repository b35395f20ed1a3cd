"""SQL of others is taken apart as PostgreSQL would, and what is written anew means just what it says."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_host.backup.sql_text import (
    LONGEST,
    NAME,
    NUMBER,
    SIGN,
    TEXT,
    WORD,
    Token,
    identifier,
    literal,
    names_one_object,
    render,
    render_object,
    statements,
)
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
        (
            "CREATE FUNCTION f(int) RETURN $1 + 1;",
            [["create", "function", "f", "(", "int", ")", "return", "$1", "+", "1"]],
        ),
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


@pytest.mark.incident("two comments with a line of psql's had what was in one of them read as statements")
@pytest.mark.parametrize("quotes", ["E'{}'", "'{}'", "$${}$$", '"{}"'])
def test_a_line_of_psql_s_within_a_text_is_a_part_of_the_text(quotes: str) -> None:
    text = "x\n\\connect "
    script = "COMMENT ON TABLE t IS " + quotes.format(text.replace("\\", "\\\\") if "E" in quotes else text) + ";"
    (statement,) = statements(script)
    assert statement[-1].value == text


def test_a_line_of_psql_s_within_a_statement_is_refused() -> None:
    with pytest.raises(HostError, match="a command of psql's is within a statement"):
        statements("ALTER TABLE t\n\\connect x\nOWNER TO zmanim;")


def test_backslashes_mean_the_same_in_every_script() -> None:
    with pytest.raises(HostError, match="backslashes"):
        statements("SET standard_conforming_strings = off;")
    assert len(statements("SET standard_conforming_strings = on;")) == 1


@pytest.mark.incident("a comment of 16 MB took 3.8 GB of root's memory in every proof")
@pytest.mark.parametrize("script", ["'{}'", "E'{}'", '"{}"', "$x${}$x$"])
@pytest.mark.parametrize("filling", ["x", "''", '""', "\\\\"])
def test_a_long_text_takes_as_much_memory_as_it_has_characters(script: str, filling: str) -> None:
    size = 1 << 18
    whole = "COMMENT ON TABLE t IS " + script.format(filling * (size // len(filling))) + ";"
    tracemalloc.start()
    try:
        with suppress(HostError):
            statements(whole)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 16 * size


def test_a_very_long_statement_is_kept_short_and_still_told_from_another() -> None:
    def long(end: str) -> tuple[Token, ...]:
        (statement,) = statements(f"CREATE VIEW v AS SELECT {'1, ' * LONGEST} {end};")
        return statement

    assert len(long("1")) == LONGEST + 1
    assert long("1") == long("1")
    assert len({long("1"), long("2"), long("'1'"), long("1, 1")}) == 4
    with pytest.raises(HostError, match="none of its kind does"):
        render(long("1"))


def test_only_a_function_s_body_has_semicolons_of_its_own() -> None:
    assert len(statements("COMMENT ON begin atomic x; SELECT 1;")) == 2


@pytest.mark.parametrize(
    "what",
    [
        *("TABLE t", 'VIEW a."b c"', "MATERIALIZED VIEW a.b", "SCHEMA s", "LARGE OBJECT 12", "PUBLICATION p"),
        *("FUNCTION a.f()", "FUNCTION a.f(n integer, OUT b numeric[], VARIADIC c s.t[])", "AGGREGATE a.count(*)"),
        *("PROCEDURE a.f(text)", "OPERATOR a.<%> (integer, integer)", "OPERATOR a.= (NONE, s.t)"),
        *("OPERATOR CLASS a.c USING btree", "TEXT SEARCH CONFIGURATION a.c", "AGGREGATE a.x(integer ORDER BY text)"),
    ],
)
def test_the_name_of_one_object_is_one(what: str) -> None:
    (statement,) = statements(f"{what};")
    assert names_one_object(statement)
    assert statements(f"{render_object(statement)};") == [statement]


@pytest.mark.parametrize(
    "what",
    [
        "TABLE public.u ALTER COLUMN a TYPE text USING public.evil(a),",
        "TABLE public.u ADD COLUMN b integer DEFAULT public.evil(),",
        *("TABLE", "TABLE a.b.c", "TABLE a b", "TABLE a,", 'TABLE a."b" c', "LARGE OBJECT x", "SYSTEM SET a = b,"),
        *("FUNCTION a.f() RENAME TO x", "FUNCTION a.f(a) (b)", "FUNCTION a.f((a)", "FUNCTION a.f('x')", "FUNCTION a.f"),
        *("OPERATOR a.= (a) (b)", "OPERATOR = (a, b)", "OPERATOR a.b (a, b)", "OPERATOR CLASS a USING", "ROLE x", "x"),
        *("FUNCTION a.f(a = b)", "OPERATOR", "OPERATOR (a)", "INDEX a.b"),
    ],
)
def test_what_does_more_than_name_one_object_is_none(what: str) -> None:
    assert not names_one_object(tuple(tokenized(what)))


@pytest.mark.parametrize("script", ["SELECT 'a", "SELECT $$ a", "/* a", "SELECT 1", 'SELECT "', "SELECT ''';"])
def test_a_script_that_ends_within_something_is_refused(script: str) -> None:
    with pytest.raises(HostError):
        statements(script)
