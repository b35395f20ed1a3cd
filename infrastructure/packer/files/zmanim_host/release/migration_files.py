"""What a migration's file may hold: SQL that runs as one transaction of ours, in one direction.

The build, the publisher and the machine ask here before anything runs. It reads SQL as psql does (psqlscan.l) as far as
it has to: where a statement ends, and what is only a comment or a string. PostgreSQL itself judges the rest. Where psql
and the server, or two settings, may read a file differently it is refused: it can be written so that all agree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from zmanim_host.host import HostError

# In psql's words any byte from 0x80 is a letter, and only ASCII is anything else.
_LETTER = r"[A-Za-z_\u0080-\U0010ffff]"
_TOKEN = re.compile(
    rf"""
      (?P<comment>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?:{_LETTER}(?:{_LETTER}|\d)*)?\$)
    | (?P<escapes>[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*')
    | (?P<string>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")*")
    | (?P<unended>[eE]?'|")
    | (?P<word>{_LETTER}(?:{_LETTER}|[\d$])*)
    | (?P<number>\d[\d.]*(?:{_LETTER}(?:{_LETTER}|[\d$])*)?)
    | (?P<command>\\[^\s]*)
    | (?P<other>[^\s])
    """,
    re.VERBOSE | re.DOTALL | re.ASCII,
)
# The same string where standard_conforming_strings is off, or after a string with E and a line's end.
_OLD_STRING = re.compile(r"'[^'\\]*(?:(?:\\.|'')[^'\\]*)*'", re.DOTALL)
# What a token with quotes is without them.
_QUOTED = {
    "escapes": re.compile(r"^.'|'$"),
    "string": re.compile(r"^'|'$"),
    "name": re.compile(r'^"|"$'),
    "dollar": re.compile(r"^\$[^$]*\$|\$[^$]*\$$"),
}
_BLOCK_EDGE = re.compile(r"/\*|\*/")
# goose and sql-migrate, dbmate, rambler, MyBatis, Atlas, Liquibase, tern, node-pg-migrate, shmig, and bare words.
_OTHER_TOOL = re.compile(
    r"--\s*(?:\+(?:goose|migrate)\b|migrate:\s*(?:up|down)\b|rambler\s+(?:up|down)\b|//\s*@UNDO\b|atlas:(?!nolint\b)"
    r"|liquibase\s+formatted\b|changeset\s+\S+:|-*\s*create above\s*/\s*drop below\b"
    r"|[\s=#*<>/-]*(?:up|down)(?:\s+migration)?[\s=#*<>:/-]*$)",
    re.IGNORECASE,
)
# A line of a comment that is just this, below another one with words in it, is mostly the end of a sentence.
_BARE = re.compile(r"--[ \t]*(?:up|down)[ \t]*")
_LINE_OF_WORDS = re.compile(r"[ \t]*--.*[a-z0-9].*", re.IGNORECASE)
_CONTROL = re.compile(
    r"(?:BEGIN|START TRANSACTION|COMMIT|END|ABORT|PREPARE TRANSACTION|ROLLBACK(?! (?:WORK |TRANSACTION )?TO\b))\b"
)
# What PostgreSQL 17 refuses in a transaction (PreventInTransactionBlock in its sources).
_ALONE = re.compile(
    r"(?:(?:CREATE (?:UNIQUE )?|DROP )INDEX CONCURRENTLY|REINDEX\b.*\bCONCURRENTLY|REINDEX (?:DATABASE|SYSTEM|SCHEMA)"
    r"|VACUUM|CLUSTER(?: VERBOSE)?$|ALTER SYSTEM|(?:CREATE|DROP) (?:DATABASE|TABLESPACE|SUBSCRIPTION)"
    r"|ALTER DATABASE\b.*\bSET TABLESPACE|ALTER TABLE\b.*\bDETACH PARTITION\b.*\bCONCURRENTLY"
    r"|ALTER SUBSCRIPTION\b.*\bPUBLICATION|DISCARD ALL)(?:\b|$)"
)
_ROUTINE = re.compile(r"CREATE (?:OR REPLACE )?(?:FUNCTION|PROCEDURE)\b")
# COPY's rows follow, and what does not: in the outline of a statement. STDOUT is the same to PostgreSQL's grammar.
_COPIED = re.compile(r'COPY (?:\S+|")(?: \. (?:\S+|"))* (?:\( \) )?FROM (?:STDIN|STDOUT)\b')
_MAY_BE_COPIED = re.compile(r"COPY\b.*\bFROM (?:\. )?(?:STDIN|STDOUT)\b")
_REST_OF_LINE = re.compile(r"[ \t]*(?:--[^\r\n]*)?(?:\r?\n|\Z)")
_END_OF_DATA = re.compile(r"^\\\.\r?$", re.MULTILINE)
# Settings by which psql reads what follows: "standard_conforming_strings" makes no difference here (_OLD_STRING).
_ENCODING = re.compile(r"SET (?:SESSION |LOCAL )?(?:CLIENT_ENCODING|NAMES)\b")
_PAGE = 'docs/releases.md, "What may not run in a transaction"'


@dataclass
class _Statement:
    """A statement as far as it was read: its words in capitals, without names in quotes; the line it begins on."""

    line: int = 0
    words: list[str] = field(default_factory=list)
    # What stands outside parentheses: words, those themselves, ' and " for a string and a name in quotes, the rest.
    outside: list[str] = field(default_factory=list)
    # Its strings and names in quotes, in lower case.
    quoted: list[str] = field(default_factory=list)
    parentheses: int = 0
    is_routine: bool = False
    # How many BEGIN and CASE are open to psql, which counts words; semicolons there end nothing.
    counted: int = 0
    # Whether the body of a routine in SQL (BEGIN ATOMIC) is open to the server, and a statement in it begins here.
    in_body: bool = False
    at_begin: bool = False

    @property
    def text(self) -> str:
        return " ".join(self.words)

    @property
    def outline(self) -> str:
        return " ".join(self.outside)

    def add(self, kind: str, lexeme: str) -> None:
        """Take one more token."""
        if kind in _QUOTED:
            self.quoted.append(_QUOTED[kind].sub("", lexeme).lower())
            lexeme = '"' if kind == "name" else "'"
        if kind == "word":
            lexeme = lexeme.upper() if lexeme.isascii() else lexeme
            self.words.append(lexeme)
            if len(self.words) <= 4:
                self.is_routine = _ROUTINE.match(self.text) is not None
        self.parentheses = max(0, self.parentheses - (lexeme == ")"))
        if not self.parentheses:
            self._count(lexeme)
            self.outside.append(lexeme)
        self.parentheses += lexeme == "("

    def ends(self) -> bool:
        """Return whether a semicolon here ends it. Raises _Unclear where psql and the server do not agree on that."""
        if self.parentheses:
            return False
        if bool(self.counted) != self.in_body:
            raise _Unclear(
                f"psql and the server do not agree on where the statement of line {self.line} ends: write what is"
                ' called begin, case or end in quotes ("end")'
            )
        return not self.in_body

    def _count(self, lexeme: str) -> None:
        if not self.is_routine:
            return
        # As psql counts them.
        if lexeme == "BEGIN" or (lexeme == "CASE" and self.counted):
            self.counted += 1
        elif lexeme == "END" and self.counted:
            self.counted -= 1
        # In the grammar of the server each statement of a body ends with a semicolon, and so END comes after one.
        if lexeme == "ATOMIC" and self.outside[-1:] == ["BEGIN"]:
            self.in_body = self.at_begin = True
        elif self.in_body:
            self.in_body = not (self.at_begin and lexeme == "END")
            self.at_begin = lexeme == ";"


class _Unclear(Exception):
    """From here on nobody can be sure what is SQL; the text says why, and what to do."""


def problems(sql: str) -> list[str]:
    """Return why a file can't be a migration, each with its line and what to do; nothing for one that can."""
    return list(_problems(sql))


def check(files: Mapping[str, bytes]) -> None:
    """Raise HostError, with the name of each file that can't be a migration, and why."""
    wrong = [f"{name}, {problem}" for name, content in sorted(files.items()) for problem in _of_file(content)]
    if wrong:
        raise HostError(f"migrations that can't be applied: {'; '.join(wrong)}")


def _of_file(content: bytes) -> list[str]:
    try:
        return problems(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return [f"byte {error.start}: it is not UTF-8"]


def _problems(sql: str) -> Iterator[str]:
    statement = _Statement()
    position = counted = 0
    line = 1
    marks = {match[0].strip("- \t").lower() for match in _BARE.finditer(sql)}
    while match := _TOKEN.search(sql, position):
        kind = match.lastgroup or ""
        line, counted = line + sql.count("\n", counted, match.start()), match.start()
        try:
            position = _end_of_token(sql, match)
            if kind in {"comment", "block", "command"}:
                is_words = len(marks) < 2 and _ends_a_sentence(sql, match)
                yield from (f"line {line}: {problem}" for problem in _aside(kind, match[0], is_words=is_words))
            elif match[0] == ";" and statement.ends():
                yield from _judge(statement)
                position = _after(statement, sql, position)
                statement = _Statement()
            else:
                statement.line = statement.line or line
                statement.add(kind, sql[match.start() : position])
        except _Unclear as error:
            yield f"line {line}: {error}"
            return
    if statement.in_body or statement.counted:
        yield f"line {statement.line}: the body of this routine does not end"
    yield from _judge(statement)


def _aside(kind: str, lexeme: str, *, is_words: bool) -> Iterator[str]:
    """Judge what is no part of a statement: a comment, a command of psql's."""
    if kind == "command":
        yield f"{lexeme} is a command to psql, and no SQL: what it does is in no transaction; write it as SQL"
    elif kind == "comment" and _OTHER_TOOL.match(lexeme) and not is_words:
        yield (
            f"{lexeme.strip()!r} is another tool's mark, and here the whole file is run, both directions of it: leave"
            " what leads forward, without marks; back leads only another migration. A comment that only looks like a"
            " mark: write it on one line with other words"
        )


def _judge(statement: _Statement) -> Iterator[str]:
    if control := _CONTROL.match(statement.text):
        yield (
            f"line {statement.line}: {control[0]}: each migration is one transaction already, together with its row in"
            " schema_migrations; with its own, one that fails leaves half of itself. Take it out"
        )
    elif alone := _ALONE.match(statement.text):
        yield f"line {statement.line}: {alone[0]} can't run in a transaction, as each migration does: see {_PAGE}"
    named = "client_encoding" in statement.quoted
    if named or (_ENCODING.match(statement.text) and not {"utf8", "utf-8"}.intersection(statement.quoted)):
        yield (
            f"line {statement.line}: in another encoding psql reads the rest of the file in another way: take it out,"
            " and write the file in UTF-8"
        )


def _ends_a_sentence(sql: str, match: re.Match[str]) -> bool:
    """Return whether a comment that is just `up` or `down` goes on with the line before, as words do."""
    *before, own = sql[: match.start()].split("\n")[-2:]
    return bool(
        _BARE.fullmatch(match[0]) and not own.strip() and before and _LINE_OF_WORDS.fullmatch(before[0].rstrip("\r"))
    )


def _after(statement: _Statement, sql: str, position: int) -> int:
    """Return where SQL goes on behind a statement's semicolon: behind its rows, if it is a COPY that has some."""
    if not _MAY_BE_COPIED.match(statement.outline):
        return position
    if not _is_copied(statement) or not _REST_OF_LINE.match(sql, position):
        raise _Unclear(
            "whether rows of a COPY follow is not clear: write names of tables in quotes, and nothing but the rows"
            " behind the semicolon"
        )
    return _end_of_data(sql, position)


def _is_copied(statement: _Statement) -> bool:
    """Return whether a statement is surely a COPY whose rows follow."""
    return _COPIED.match(statement.outline) is not None and " TO " not in statement.outline


def _end_of_token(sql: str, match: re.Match[str]) -> int:
    kind, position = match.lastgroup, match.end()
    if kind == "block":
        return _end_of_comment(sql, position)
    if kind == "dollar":
        return _end_of_quote(sql, position, match[0])
    if kind == "unended":
        raise _Unclear("a quote does not end")
    if kind == "string":
        old = _OLD_STRING.match(sql, match.start())
        if old is None or old.end() != position:
            raise _Unclear(
                "where a string with a backslash before a quote ends is a matter of settings: write it as E'…', with"
                " two backslashes for one"
            )
    return position


def _end_of_comment(sql: str, position: int) -> int:
    """Return where a block comment ends: they nest."""
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(sql, position)
        if edge is None:
            raise _Unclear("a comment does not end")
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position


def _end_of_quote(sql: str, position: int, quote: str) -> int:
    end = sql.find(quote, position)
    if end < 0:
        raise _Unclear(f"the quote {quote} does not end")
    return end + len(quote)


def _end_of_data(sql: str, position: int) -> int:
    """Return where the rows of a COPY end that come in the file itself."""
    end = _END_OF_DATA.search(sql, position)
    return end.end() if end else len(sql)
