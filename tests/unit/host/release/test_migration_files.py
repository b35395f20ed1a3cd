"""A migration is one transaction in one direction, or it is refused before anything of it runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT
from zmanim_host.host import HostError
from zmanim_host.release.migration_files import check, problems


@pytest.mark.incident("a migration with its own COMMIT left half of itself, and was said to be rolled back")
@pytest.mark.parametrize(
    ("sql", "statement"),
    [
        ("BEGIN; CREATE TABLE a ();", "BEGIN"),
        ("CREATE TABLE a ();\nCOMMIT AND CHAIN;", "COMMIT"),
        ("SELECT 1; end", "END"),
        ("start\ntransaction isolation level serializable;", "START TRANSACTION"),
        ("ROLLBACK;", "ROLLBACK"),
        ("abort work", "ABORT"),
        ("PREPARE TRANSACTION 'x'", "PREPARE TRANSACTION"),
        ("ROLLBACK PREPARED 'x'", "ROLLBACK"),
        # What hides it from a reader does not hide it from psql.
        ("SELECT 'a;'; /* /* */ */ commit", "COMMIT"),
        ("SELECT E'it\\'s;'; COMMIT;", "COMMIT"),
        ("SELECT $a$ ; $$ $a$; COMMIT;", "COMMIT"),
        ('SELECT 1 AS "a;"; COMMIT;', "COMMIT"),
        ("COPY a FROM STDIN;\nx;y\n\\.\nCOMMIT;", "COMMIT"),
        ("CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; END; COMMIT;", "COMMIT"),
        ("CREATE RULE r AS ON INSERT TO a DO ALSO (DELETE FROM b; DELETE FROM c); COMMIT", "COMMIT"),
    ],
)
def test_a_migration_with_transactions_of_its_own_is_refused(sql: str, statement: str) -> None:
    assert any(f"{statement}: each migration is one transaction already" in each for each in problems(sql))


@pytest.mark.parametrize(
    "sql",
    [
        "CREATE INDEX CONCURRENTLY a ON b (c);",
        "create unique index concurrently if not exists a on b (c)",
        "DROP INDEX CONCURRENTLY a",
        "REINDEX (VERBOSE, CONCURRENTLY) TABLE a",
        "REINDEX TABLE CONCURRENTLY a",
        "REINDEX SCHEMA public",
        "VACUUM (ANALYZE) a",
        "CLUSTER; SELECT 1",
        "CLUSTER (VERBOSE)",
        "ALTER SYSTEM SET work_mem = '1MB'",
        "CREATE DATABASE a",
        "DROP TABLESPACE a",
        "ALTER DATABASE a SET TABLESPACE b",
        'ALTER TABLE a DETACH PARTITION "b" CONCURRENTLY',
        "CREATE SUBSCRIPTION a CONNECTION '' PUBLICATION b",
        "ALTER SUBSCRIPTION a REFRESH PUBLICATION",
        "DISCARD ALL",
    ],
)
def test_what_may_not_run_in_a_transaction_is_refused_with_where_its_way_is_described(sql: str) -> None:
    (problem,) = problems(f"SELECT 1;\n{sql}")
    assert problem.startswith("line 2: ")
    assert "can't run in a transaction, as each migration does: see docs/releases.md, \"" in problem
    heading = problem.rpartition('md, "')[2].strip('"')
    assert f"\n## {heading}\n" in (ROOT / "docs/releases.md").read_text()


@pytest.mark.incident("a file with two directions in it ran both: the tables were made and dropped")
@pytest.mark.parametrize(
    "mark",
    [
        "-- +goose Up",
        "--+goose Down",
        "-- +goose StatementBegin",
        "-- +goose NO TRANSACTION",
        "-- +migrate Down",
        "-- migrate:up",
        "-- migrate:down transaction:false",
        "-- rambler down",
        "-- //@UNDO",
        "-- atlas:txmode none",
        "--liquibase formatted sql",
        "--changeset you:1",
        "---- create above / drop below ----",
        "-- Down Migration",
        "-- ==== UP ====",
        "-- down:",
    ],
)
def test_the_form_of_another_tool_is_refused(mark: str) -> None:
    (problem,) = problems(f"CREATE TABLE a ();\n{mark}\nDROP TABLE a;\n")
    assert problem.startswith(f"line 2: {mark!r} is another tool's mark")


@pytest.mark.parametrize(
    "command", ["\\i other.sql", "\\connect postgres", "\\! id", "SELECT 1 \\gexec", "SELECT 1 \\;"]
)
def test_psql_s_own_commands_are_refused(command: str) -> None:
    (problem,) = problems(command)
    assert "is a command to psql" in problem


@pytest.mark.incident("a routine called begin, or a table called stdin, hid a COMMIT: half of the migration stayed")
@pytest.mark.parametrize(
    "sql",
    [
        # A word BEGIN that opens no body, to the server.
        "CREATE FUNCTION begin() RETURNS int LANGUAGE sql AS 'select 1'; COMMIT; SELECT 1/0;",
        "CREATE FUNCTION f(a begin) RETURNS begin LANGUAGE sql AS 'select 1'; COMMIT; SELECT 1/0;",
        "CREATE FUNCTION begin.atomic() RETURNS int LANGUAGE sql AS 'select 1'; COMMIT; SELECT 1/0;",
        # Names within a body that psql counts and the server doesn't.
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 AS case; END; COMMIT; SELECT 1/0; SELECT 2 AS end;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT 1 case; END; COPY a FROM STDIN;\nCOMMIT;\n\\.\n",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT a.end FROM a; END; COMMIT;",
        # Rows that are none.
        "CREATE TABLE half ();\nCOPY (SELECT a FROM stdin) TO STDOUT;\nCOMMIT;\nSELECT 1/0;",
        "COPY d.from.stdin TO STDOUT;\nCOMMIT;\n",
        "COPY a FROM STDIN; COMMIT; SELECT 1/0;\n\\.\n",
        "COPY a FROM STDIN /*\n*/; /*\n*/ COMMIT;\n\\.\n",
        "COPY a FROM STDOUT;\n'\n\\.\nCOMMIT; SELECT '1';",
        # Strings that end elsewhere when a setting says so, or an encoding.
        "SET standard_conforming_strings = off; SELECT 'a\\''; COMMIT; SELECT 1/0 --'",
        "SELECT set_config('standard_' || 'conforming_strings', 'off', true);\nSELECT 'a\\''; COMMIT; SELECT 1/0 --'",
        "SELECT E'a'\n'b\\''; COMMIT; --'",
        "SET client_encoding = 'SJIS'; SELECT 'a\u0103' x 'y; COMMIT; SELECT 1/0 --';",
        "SET NAMES 'SJIS';",
        "SELECT pg_catalog.set_config('client_encoding', 'SJIS', true);",
        "SET \"client_encoding\" TO 'SJIS'",
        # Any byte from 0x80 is a letter to psql.
        "SELECT $\u00ab$ ' $\u00ab$; COMMIT; SELECT 1/0; --'",
        "SELECT 1 AS \u00abe'\\'; COMMIT; SELECT 1/0; --'",
        "SELECT 1a$b$ ; COMMIT; SELECT 1/0 $b$",
        "SELECT 1e'\\'; COMMIT; SELECT 1/0; --'",
    ],
)
def test_what_hides_a_transaction_from_a_reader_but_not_from_the_server_is_refused(sql: str) -> None:
    assert problems(sql) != []


@pytest.mark.parametrize(
    "sql",
    [
        "SET client_encoding = 'UTF8'; SET standard_conforming_strings = on;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC\nSELECT CASE WHEN true THEN CASE 1 WHEN 1 THEN 2 END END;\nEND;",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC END; SELECT 1;",
        'COPY public."a b" (c, "d") FROM STDIN WITH (FORMAT csv); -- rows\n1,\'\n\\.\nSELECT 1;',
        "COPY a FROM STDIN;\r\n1\r\n\\.\r\nSELECT 1;",
        "COPY a TO STDOUT; SELECT 'C:\\dir', E'it\\'s', 'it''s';",
        "SELECT $\u00ab$ COMMIT; $\u00ab$, $\u00e9t\u00e9$ ' $\u00e9t\u00e9$;",
    ],
)
def test_what_only_looks_like_it_is_taken(sql: str) -> None:
    assert problems(sql) == []


@pytest.mark.incident("a comment whose last line was just 'down' stopped a release")
@pytest.mark.parametrize(
    "sql",
    [
        "-- The service is stopped while its table is\n-- down\nSELECT 1;",
        "CREATE TABLE a ();\n  -- what is counted goes\n  -- up\nSELECT 1;",
        "-- atlas:nolint destructive\nSELECT 1;",
        "-- atlas:nolint\nDROP TABLE a;",
    ],
)
def test_words_of_a_comment_and_notes_for_a_linter_are_no_marks(sql: str) -> None:
    assert problems(sql) == []


@pytest.mark.parametrize(
    "sql",
    [
        "-- Makes the table\n-- up\nCREATE TABLE a ();\n-- Takes it away\n-- down\nDROP TABLE a;",
        "-- ====\n-- DOWN\n-- ====\nDROP TABLE a;",
        "-- Takes it away\n-- down:\nDROP TABLE a;",
        "-- Takes it away\n\n-- down\nDROP TABLE a;",
    ],
)
def test_marks_are_marks_below_a_comment_too(sql: str) -> None:
    assert "is another tool's mark" in problems(sql)[0]


@pytest.mark.parametrize(
    "sql",
    [
        "",
        "CREATE INDEX a ON b (c); -- not CONCURRENTLY, on purpose",
        "SAVEPOINT a; ROLLBACK TO SAVEPOINT a; ROLLBACK WORK TO a; RELEASE a;",
        "DO $$ BEGIN PERFORM 1; EXCEPTION WHEN OTHERS THEN NULL; END $$;",
        "CREATE OR REPLACE PROCEDURE p() LANGUAGE plpgsql AS $body$ BEGIN COMMIT; END $body$;",
        "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT CASE WHEN true THEN 1 END; SELECT 2; END;",
        "COMMENT ON TABLE a IS 'BEGIN; COMMIT; \\d -- +goose Down';",
        'ALTER TABLE a RENAME COLUMN "begin" TO "end;";',
        "-- Clean up\n-- scale down the rest\n-- rollback is not needed: expand only\nSELECT 1;",
        "CLUSTER a USING b; REINDEX TABLE a; ALTER DATABASE a SET work_mem = '1MB';",
        "COPY a FROM STDIN;\nCOMMIT;\t'\n\\.\nSELECT 1;",
        "ALTER TYPE a ADD VALUE 'b'; REFRESH MATERIALIZED VIEW CONCURRENTLY c;",
        "SELECT a$b$c, $1 FROM d;",
        "SELECT 1; /* COMMIT; /* \\d */ VACUUM; */",
    ],
)
def test_what_is_one_transaction_in_one_direction_is_taken(sql: str) -> None:
    assert problems(sql) == []


@pytest.mark.parametrize(
    "sql", ["SELECT 'a; COMMIT;", 'SELECT "a', "DO $a$ BEGIN $b$", "/* /* */ COMMIT;", "SELECT E'a\\'"]
)
def test_a_quote_that_does_not_end_is_told_with_its_line(sql: str) -> None:
    (problem,) = problems(f"\n{sql}")
    assert problem.startswith(("line 2: a ", "line 2: the quote"))
    assert problem.endswith("does not end")


@given(st.text(max_size=200))
def test_whatever_the_text_it_comes_to_an_end(sql: str) -> None:
    problems(sql)


# A backslash before the quote is refused, whatever the text is.
@given(st.text(alphabet=st.characters(exclude_characters="'\0\\"), max_size=80))
def test_nothing_in_a_string_is_taken_for_a_statement(text: str) -> None:
    assert problems(f"SELECT '{text}', $q${text.replace('$', '')}$q$;") == []
    (problem,) = problems(f"SELECT '{text}'; COMMIT;")
    assert "COMMIT" in problem


# Statements that are one each to the server, whatever they hold; with all that could hide where one ends.
_NAMES = st.sampled_from(["a", "begin", "stdin", "atomic", '"end;"', '"b""c"', "\u00ab", "e", "from"])
_TEXT = st.text(alphabet=st.sampled_from(list("a;'\\\"$\u00ab\u0103() \n-/*")), max_size=12)


def _dollars(text: str, tag: str) -> str:
    return f"${tag}${text.replace('$', '')}${tag}$"


_VALUES = st.one_of(
    st.builds(lambda text: "E'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'", _TEXT),
    st.builds(lambda text: "'" + text.replace("\\", "").replace("'", "''") + "'", _TEXT),
    st.builds(_dollars, _TEXT, st.sampled_from(["", "a", "\u00ab", "_1"])),
    st.builds(lambda text: "/*" + text.replace("*", "").replace("/", "") + "*/ 1", _TEXT),
    st.builds(lambda text: "1 --" + text.replace("\n", "") + "\n", _TEXT),
    st.builds(lambda text: '"' + text.replace('"', '""') + '"', _TEXT),
    st.builds("CASE WHEN {} THEN 1 END".format, st.just("true")),
)
_STATEMENTS = st.one_of(
    st.builds("SELECT {}".format, _VALUES),
    st.builds("SELECT ({}, {})".format, _VALUES, _VALUES),
    st.builds("CREATE FUNCTION {}() RETURNS int LANGUAGE sql AS {}".format, _NAMES, _VALUES),
    st.builds("CREATE FUNCTION f(a {}) RETURNS int BEGIN ATOMIC SELECT {}; SELECT 1; END".format, _NAMES, _VALUES),
    st.builds("CREATE RULE {} AS ON INSERT TO a DO ALSO (SELECT {}; SELECT 2)".format, _NAMES, _VALUES),
    st.builds("COPY (SELECT {} FROM {}) TO STDOUT".format, _VALUES, _NAMES),
    st.builds("COPY a ({}) FROM STDIN;\nx'y;\n\\.\nSELECT 1".format, _NAMES),
    st.builds("ALTER TABLE a RENAME COLUMN {} TO b".format, _NAMES),
)


@given(st.lists(_STATEMENTS, max_size=4), st.lists(_STATEMENTS, max_size=2))
def test_wherever_among_honest_statements_a_commit_stands_it_is_refused(before: list[str], after: list[str]) -> None:
    assert problems(";\n".join([*before, "COMMIT", *after])) != []


@given(st.lists(st.builds("SELECT ({}, {})".format, _VALUES, _VALUES), max_size=5))
def test_whatever_values_hold_honest_statements_are_taken(statements: list[str]) -> None:
    assert problems(";\n".join(statements)) == []


def test_every_file_that_is_refused_is_named() -> None:
    good = b"\xef\xbb\xbfSELECT 1;"
    check({"1.sql": good})
    with pytest.raises(HostError) as refused:
        check({"3.sql": b"\xff", "2.sql": b"VACUUM;\nCOMMIT;", "1.sql": good})
    words = str(refused.value)
    assert words.startswith("migrations that can't be applied: 2.sql, line 1: VACUUM can't")
    assert "2.sql, line 2: COMMIT" in words
    assert words.endswith("3.sql, byte 0: it is not UTF-8")
