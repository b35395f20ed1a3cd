"""What a migration's file may hold: SQL that runs as one transaction of ours, in one direction.

The build, the publisher and the machine ask here before anything runs. It reads SQL as psql does as far as it has to:
where a statement ends, and what is only a comment or a string. PostgreSQL itself judges the rest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from zmanim_host.host import HostError

_TOKEN = re.compile(
    r"""
      (?P<comment>--[^\r\n]*)
    | (?P<block>/\*)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<string>[eE]'[^'\\]*(?:(?:\\.|'')[^'\\]*)*' | '[^']*' | "[^"]*")
    | (?P<unended>[eE]?'|")
    | (?P<word>[^\W\d][\w$]*)
    | (?P<command>\\[^\s]*)
    | (?P<other>[^\s])
    """,
    re.VERBOSE | re.DOTALL,
)
_BLOCK_EDGE = re.compile(r"/\*|\*/")
# goose and sql-migrate, dbmate, rambler, MyBatis, Atlas, Liquibase, tern, node-pg-migrate, shmig, and bare words.
_OTHER_TOOL = re.compile(
    r"--\s*(?:\+(?:goose|migrate)\b|migrate:\s*(?:up|down)\b|rambler\s+(?:up|down)\b|//\s*@UNDO\b|atlas:"
    r"|liquibase\s+formatted\b|changeset\s+\S+:|-*\s*create above\s*/\s*drop below\b"
    r"|[\s=#*<>/-]*(?:up|down)(?:\s+migration)?[\s=#*<>:/-]*$)",
    re.IGNORECASE,
)
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
_COPIED = re.compile(r"COPY\b.*\bFROM STDIN\b")
_END_OF_DATA = re.compile(r"^\\\.\r?$", re.MULTILINE)
_PAGE = 'docs/releases.md, "What may not run in a transaction"'


@dataclass
class _Statement:
    """A statement as far as it was read: its words in capitals, without names in quotes; the line it begins on."""

    line: int = 0
    words: list[str] = field(default_factory=list)
    parentheses: int = 0
    # How many BEGIN and CASE of a routine's body in SQL (BEGIN ATOMIC) are open: semicolons there end nothing.
    blocks: int = 0
    is_routine: bool = False

    @property
    def text(self) -> str:
        return " ".join(self.words)

    def add(self, word: str) -> None:
        """Take one more word."""
        self.words.append(word)
        if len(self.words) <= 4:
            self.is_routine = _ROUTINE.match(self.text) is not None
        # As psql counts them.
        if self.is_routine and not self.parentheses:
            if word == "BEGIN" or (word == "CASE" and self.blocks):
                self.blocks += 1
            elif word == "END" and self.blocks:
                self.blocks -= 1


class _Unfinished(Exception):
    """A quote or a comment that does not end; the text says which."""


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
    while match := _TOKEN.search(sql, position):
        position, kind, lexeme = match.end(), match.lastgroup, match[0]
        line, counted = line + sql.count("\n", counted, match.start()), match.start()
        try:
            if kind == "comment":
                if _OTHER_TOOL.match(lexeme):
                    yield (
                        f"line {line}: {lexeme.strip()!r} is another tool's mark, and here the whole file is run, both"
                        " directions of it: leave what leads forward, without marks; back leads only another migration"
                    )
                continue
            if kind == "block":
                position = _end_of_comment(sql, position)
                continue
            if kind == "dollar":
                position = _end_of_quote(sql, position, lexeme)
            elif kind == "unended":
                raise _Unfinished("a quote")
        except _Unfinished as error:
            yield f"line {line}: {error} does not end"
            return
        if kind == "command":
            yield (
                f"line {line}: {lexeme} is a command to psql, and no SQL: what it does is in no transaction;"
                " write it as SQL"
            )
            continue
        if lexeme == ";" and not statement.parentheses and not statement.blocks:
            yield from _judge(statement)
            if _COPIED.match(statement.text):
                position = _end_of_data(sql, position)
            statement = _Statement()
            continue
        statement.line = statement.line or line
        if kind == "word":
            statement.add(lexeme.upper())
        statement.parentheses = max(0, statement.parentheses + (lexeme == "(") - (lexeme == ")"))
    yield from _judge(statement)


def _judge(statement: _Statement) -> Iterator[str]:
    if control := _CONTROL.match(statement.text):
        yield (
            f"line {statement.line}: {control[0]}: each migration is one transaction already, together with its row in"
            " schema_migrations; with its own, one that fails leaves half of itself. Take it out"
        )
    elif alone := _ALONE.match(statement.text):
        yield f"line {statement.line}: {alone[0]} can't run in a transaction, as each migration does: see {_PAGE}"


def _end_of_comment(sql: str, position: int) -> int:
    """Return where a block comment ends: they nest."""
    depth = 1
    while depth:
        edge = _BLOCK_EDGE.search(sql, position)
        if edge is None:
            raise _Unfinished("a comment")
        depth += 1 if edge[0] == "/*" else -1
        position = edge.end()
    return position


def _end_of_quote(sql: str, position: int, quote: str) -> int:
    end = sql.find(quote, position)
    if end < 0:
        raise _Unfinished(f"the quote {quote}")
    return end + len(quote)


def _end_of_data(sql: str, position: int) -> int:
    """Return where the rows of a COPY end that come in the file itself."""
    end = _END_OF_DATA.search(sql, position)
    return end.end() if end else len(sql)
