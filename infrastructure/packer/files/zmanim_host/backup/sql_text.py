"""SQL that somebody else has written, taken apart into tokens; and names and values quoted, for SQL of our own.

What a backup holds may be anybody's: no statement of it is ever run as the superuser. What is needed of it (owners,
grants, settings) is read from its tokens and written anew.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from zmanim_host.host import HostError

# The kinds of tokens. A plain word is folded to lower case, as PostgreSQL does with one that is not quoted. A command
# is a line of psql's own, and a rest what a very long statement ends with.
WORD, NAME, TEXT, NUMBER, SIGN, COMMAND, REST = "word", "name", "text", "number", "sign", "command", "rest"
# No quoted text as a whole: an expression that repeats alternatives keeps some 200 bytes for each of its turns.
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<quoted>[eE]?'|")
    | (?P<word>[^\W\d][\w$]*)
    | (?P<comment>/\*)
    | (?P<command>^\\(?:restrict|unrestrict|connect)\ [^\n]*)
    | (?P<sign>[^\s\w"'$])
    | (?P<number>\$?\d+(?:\.\d+)?)
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    """,
    re.VERBOSE | re.DOTALL | re.MULTILINE,
)
# By the beginning of a quoted text or name: what stands for something in it, and what ends it.
_QUOTED = {"'": re.compile("''|'"), '"': re.compile('""|"'), "e'": re.compile(r"''|\\.|'", re.DOTALL)}
# How many tokens of a statement are kept one by one: more than any has that is written anew.
LONGEST = 20_000
# What pg_dump writes ALTER … OWNER TO of, with a name alone; and with arguments (_getObjectDescription in its
# pg_backup_archiver.c).
_NAMED = (
    *("table", "view", "materialized view", "foreign table", "sequence", "schema", "type", "domain", "collation"),
    *("conversion", "statistics", "server", "publication", "text search dictionary", "text search configuration"),
    *("foreign data wrapper", "procedural language", "event trigger", "subscription"),
)
_OPERATOR = "+-*/<>=~!@#%^&|`?"
_CALLED = ("function", "procedure", "aggregate")
_COMMENT = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|''", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Token:
    """One token: its kind, and what it means (a name or text without its quotes)."""

    __slots__ = ("kind", "value")
    kind: str
    value: str

    def is_name(self) -> bool:
        """Return whether it can be a name: a quoted one, or a word."""
        return self.kind in {WORD, NAME}


Statement = tuple[Token, ...]


def identifier(name: str) -> str:
    """Return a name as SQL, always quoted; HostError for one that PostgreSQL can't have."""
    if not name or "\0" in name:
        raise HostError(f"{name!r} is no name of PostgreSQL's")
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL, the same whatever standard_conforming_strings says; HostError for a zero byte."""
    if "\0" in text:
        raise HostError(f"{text!r} is no text of PostgreSQL's")
    quoted = "'" + text.replace("'", "''") + "'"
    return " E" + quoted.replace("\\", "\\\\") if "\\" in text else quoted


def begins(statement: Sequence[Token], *words: str) -> bool:
    """Return whether a statement begins with these words, none of them a quoted name."""
    return [(token.kind, token.value) for token in statement[: len(words)]] == [(WORD, word) for word in words]


def is_setting(tokens: Sequence[Token]) -> bool:
    """Return whether tokens are SET name TO 'value', … and nothing beside that."""
    values = tokens[3:]
    return (
        begins(tokens, "set")
        and bool(values)
        and tokens[1].is_name()
        and tokens[2] == Token(WORD, "to")
        and len(values) % 2 == 1
        and all(value.kind == TEXT for value in values[::2])
        and all(comma == Token(SIGN, ",") for comma in values[1::2])
    )


def names_one_object(what: Statement) -> bool:
    """Return whether tokens are the name of one object, as pg_dump has it between ALTER and OWNER TO, and no more."""
    for kind in _NAMED:
        if begins(what, *kind.split()):
            return _is_name(what[len(kind.split()) :])
    if begins(what, "large", "object"):
        return len(what) == 3 and what[2].kind == NUMBER
    if begins(what, "operator", "class") or begins(what, "operator", "family"):
        return len(what) > 4 and _is_name(what[2:-2]) and begins(what[-2:-1], "using") and what[-1].is_name()
    return any(begins(what, kind) for kind in (*_CALLED, "operator")) and _has_arguments(what)


def _is_name(tokens: Statement) -> bool:
    parts, dots = tokens[::2], tokens[1::2]
    return (
        len(tokens) in {1, 3} and all(part.is_name() for part in parts) and all(dot == Token(SIGN, ".") for dot in dots)
    )


def _has_arguments(what: Statement) -> bool:
    # Types, with names before them: nothing of it is worked out, and nothing comes after the one pair of parentheses.
    opened = next((at for at, token in enumerate(what) if token == Token(SIGN, "(")), 0)
    name, arguments = what[1:opened], what[opened:]
    if begins(what, "operator"):
        signs = name[2:]
        named = bool(signs) and name[0].is_name() and name[1] == Token(SIGN, ".")
        named = named and all(token.kind == SIGN and token.value in _OPERATOR for token in signs)
    else:
        named = _is_name(name)
    depth = 0
    for at, token in enumerate(arguments):
        depth += {"(": 1, ")": -1}.get(token.value, 0) if token.kind == SIGN else 0
        if token.kind not in {WORD, NAME, NUMBER} and (token.kind != SIGN or token.value not in "()[],.*"):
            return False
        if not depth:
            return named and at == len(arguments) - 1
    return False


def render_object(what: Statement) -> str:
    """Return one object (names_one_object) as SQL again; an operator's signs stay together."""
    signs = [at for at, token in enumerate(what) if token.kind == SIGN and token.value in _OPERATOR]
    if not begins(what, "operator") or not signs or signs[0] != 3:
        return render(what)
    opened = what.index(Token(SIGN, "("))
    return f"{render(what[:3])} {''.join(token.value for token in what[3:opened])} {render(what[opened:])}"


def render(tokens: Sequence[Token]) -> str:
    """Return tokens as SQL again, each quoted anew; a word stays one, so that a type's or a kind's name is understood.

    A statement can't end within it: HostError for a semicolon.
    """
    words = []
    for token in tokens:
        if token.kind in {COMMAND, REST} or (token.kind == SIGN and token.value not in "()[],.*=+-:"):
            raise HostError(f"a statement holds {token.value[:60]!r}, which none of its kind does")
        words.append({NAME: identifier, TEXT: literal}.get(token.kind, str)(token.value))
    return " ".join(words)


def tokens(sql: str) -> Iterator[Token]:
    """Yield the tokens of some SQL, without comments; HostError for what is none."""
    position = 0
    while position < len(sql):
        match = _TOKEN.match(sql, position)
        if not match:
            raise HostError(f"SQL that can't be understood: {sql[position : position + 60]!r}")
        kind, found, position = str(match.lastgroup), match[0], match.end()
        if kind == "space":
            pass
        elif kind == "word":
            yield _word(found)
        elif kind in {"sign", "number", "command"}:
            yield _plain(kind, found)
        elif kind == "quoted":
            end = _end(sql, position, found.lower())
            yield _unquoted(found, sql[position : end - 1])
            position = end
        elif kind == "comment":
            position = _after_comment(sql, position)
        else:
            end = sql.find(found, position)
            if end < 0:
                raise _endless(sql, position)
            yield Token(TEXT, sql[position:end])
            position = end + len(found)


def _end(sql: str, position: int, begin: str) -> int:
    for match in _QUOTED[begin].finditer(sql, position):
        if match[0] == begin[-1]:
            return match.end()
    raise _endless(sql, position)


def _endless(sql: str, position: int) -> HostError:
    return HostError(f"a text has no end: {sql[position : position + 60]!r}")


def _unquoted(begin: str, text: str) -> Token:
    if begin == "'":
        return Token(TEXT, text.replace("''", "'"))
    if begin != '"':
        return Token(TEXT, _unescaped(text))
    if not text:
        raise HostError("a name is empty")
    return Token(NAME, text.replace('""', '"'))


@lru_cache(maxsize=4096)
def _word(found: str) -> Token:
    # ASCII only: what PostgreSQL does with other letters depends on the locale, so pg_dump quotes those.
    return Token(WORD, re.sub("[A-Z]+", lambda part: part[0].lower(), found))


@lru_cache(maxsize=4096)
def _plain(kind: str, found: str) -> Token:
    return Token(kind, found)


def statements(sql: str) -> list[Statement]:
    """Return the statements of a script as pg_dump writes one; HostError for what can't be understood.

    psql's own commands that pg_dump writes between statements are left out; within one they are refused. Of a statement
    that has more than LONGEST tokens the rest is one token, which is the same where the rest is.
    """
    result: list[Statement] = []
    current = _Current()
    for token in tokens(sql):
        if token.kind == COMMAND:
            if current.tokens:
                raise HostError(f"a command of psql's is within a statement: {token.value[:60]!r}")
        elif token.value == ";" and token.kind == SIGN and current.is_whole():
            if current.tokens:
                result.append(current.statement())
            current = _Current()
        else:
            current.add(token)
    if current.tokens:
        raise HostError(f"the last statement has no end: {' '.join(token.value for token in current.tokens[:6])}")
    return result


_END = Token(SIGN, ";")
_ATOMIC = (Token(WORD, "begin"), Token(WORD, "atomic"))
_OFF = tuple(Token(WORD, word) for word in ("set", "standard_conforming_strings"))


class _Current:
    """The statement that is being read."""

    def __init__(self) -> None:
        self.tokens: list[Token] = []
        self._atomic = False
        self._previous = _END
        self._rest = hashlib.sha256()
        self._length = 0

    def add(self, token: Token) -> None:
        """Add a token to it."""
        if token.value == "atomic" and (self._previous, token) == _ATOMIC and self._is_routine():
            self._atomic = True
        self._previous = token
        if len(self.tokens) < LONGEST:
            self.tokens.append(token)
        else:
            self._length += 1
            self._rest.update(f"{token.kind} {len(token.value)} {token.value}".encode("utf-8", "surrogatepass"))

    def is_whole(self) -> bool:
        """Return whether a semicolon ends it: the body of a function in standard SQL has some of its own.

        BEGIN ATOMIC …; END.
        """
        return not self._atomic or self._previous == Token(WORD, "end")

    def statement(self) -> Statement:
        """Return it; HostError for one that has texts mean something else from there on."""
        if tuple(self.tokens[:2]) == _OFF and self._previous != Token(WORD, "on"):
            raise HostError("the script has backslashes be escapes in every text, and pg_dump writes none like that")
        if self._length:
            self.tokens.append(Token(REST, f"{self._length} {self._rest.hexdigest()}"))
        return tuple(self.tokens)

    def _is_routine(self) -> bool:
        words = [
            token.value for token in self.tokens[:4] if token.kind == WORD and token.value not in {"or", "replace"}
        ]
        return words[:1] == ["create"] and words[1:2] in (["function"], ["procedure"])


def _after_comment(sql: str, position: int) -> int:
    depth = 1
    for match in _COMMENT.finditer(sql, position):
        depth += 1 if match[0] == "/*" else -1
        if depth == 0:
            return match.end()
    raise HostError("a comment has no end")


def _unescaped(text: str) -> str:
    def replace(match: re.Match[str]) -> str:
        octal, byte, short, long, letter = match.groups()
        if octal or byte:
            return chr(int(octal, 8) & 0xFF if octal else int(byte, 16))
        if short or long:
            return chr(int(short or long, 16))
        return "'" if letter is None else _LETTERS.get(letter, letter)

    return _ESCAPE.sub(replace, text)


# ---- The rows of a script ----

_COPIED = re.compile(rb"""COPY ((?:"(?:[^"]|"")+"|[^" (]+)\.(?:"(?:[^"]|"")+"|[^" (]+)) .*FROM stdin;\n""", re.DOTALL)


def count_rows(script: Iterable[bytes]) -> dict[str, int]:
    """Return how many rows a script of pg_restore's loads into each table, by its quoted name; `script` are its lines.

    Counted where they are, and not by the server: that would run functions in the tables' indexes as the backup's role.
    """
    rows: dict[str, int] = {}
    header, table = b"", ""
    for line in script:
        if table:
            if line == b"\\.\n":
                table = ""
            else:
                rows[table] += 1
        elif header or line.startswith(b"COPY "):
            # A name may have a line's end in it.
            header += line
            match = _COPIED.fullmatch(header)
            if match:
                table, header = match[1].decode("utf-8"), b""
                rows[table] = 0
    return rows
