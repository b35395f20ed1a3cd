"""SQL that somebody else has written, taken apart into tokens; and names and values quoted, for SQL of our own.

What a backup holds may be anybody's: no statement of it is ever run as the superuser. What is needed of it (owners,
grants, settings) is read from its tokens and written anew.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from zmanim_host.host import HostError

# The kinds of tokens. A plain word is folded to lower case, as PostgreSQL does with one that is not quoted.
WORD, NAME, TEXT, NUMBER, SIGN = "word", "name", "text", "number", "sign"
_TOKEN = re.compile(
    r"""
      (?P<space>\s+|--[^\n]*)
    | (?P<comment>/\*)
    | (?P<escaped>[eE]'(?:[^'\\]|''|\\.)*')
    | (?P<text>'(?:[^']|'')*')
    | (?P<name>"(?:[^"]|"")+")
    | (?P<dollar>\$(?:[^\W\d]\w*)?\$)
    | (?P<word>[^\W\d][\w$]*)
    | (?P<number>\d+(?:\.\d+)?)
    | (?P<sign>[^\s\w"'$])
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENT = re.compile(r"/\*|\*/")
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))|''", re.DOTALL)
_LETTERS = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


@dataclass(frozen=True)
class Token:
    """One token: its kind, and what it means (a name or text without its quotes)."""

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


def render(tokens: Sequence[Token]) -> str:
    """Return tokens as SQL again, each quoted anew; a word stays one, so that a type's or a kind's name is understood.

    A statement can't end within it: HostError for a semicolon.
    """
    words = []
    for token in tokens:
        if token == Token(SIGN, ";") or (token.kind == SIGN and token.value not in "()[],.*=+-:"):
            raise HostError(f"a statement holds {token.value!r}, which none of its kind does")
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
        if kind == "comment":
            position = _after_comment(sql, position)
        elif kind == "dollar":
            end = sql.find(found, position)
            if end < 0:
                raise HostError(f"a text has no end: {sql[position : position + 60]!r}")
            yield Token(TEXT, sql[position:end])
            position = end + len(found)
        elif kind == "escaped":
            yield Token(TEXT, _unescaped(found[2:-1]))
        elif kind == "text":
            yield Token(TEXT, found[1:-1].replace("''", "'"))
        elif kind == "name":
            yield Token(NAME, found[1:-1].replace('""', '"'))
        elif kind == "word":
            # ASCII only: what PostgreSQL does with other letters depends on the locale, so pg_dump quotes those.
            yield Token(WORD, re.sub("[A-Z]+", lambda part: part[0].lower(), found))
        elif kind != "space":
            yield Token(kind, found)


def statements(sql: str) -> list[Statement]:
    """Return the statements of a script as pg_dump writes one; HostError for what can't be understood.

    psql's own commands (a line that begins with a backslash, outside of any text) are left out.
    """
    result: list[Statement] = []
    current: list[Token] = []
    for token in tokens(_without_commands(sql)):
        if token == Token(SIGN, ";"):
            if current:
                result.append(tuple(current))
            current = []
        else:
            current.append(token)
    if current:
        raise HostError(f"the last statement has no end: {' '.join(token.value for token in current[:6])}")
    return _joined(result)


def _joined(parts: list[Statement]) -> list[Statement]:
    # The body of a function in standard SQL has semicolons of its own: BEGIN ATOMIC …; END.
    result: list[Statement] = []
    begun: list[Token] = []
    for part in parts:
        begun += [*part, Token(SIGN, ";")] if begun or _is_atomic(part) else []
        if not begun:
            result.append(part)
        elif part[-1] == Token(WORD, "end"):
            result.append(tuple(begun[:-1]))
            begun = []
    if begun:
        raise HostError("the body of a function has no end")
    return result


def _is_atomic(part: Statement) -> bool:
    atomic = (Token(WORD, "begin"), Token(WORD, "atomic"))
    return any(part[at : at + 2] == atomic for at in range(len(part)))


def _without_commands(sql: str) -> str:
    # pg_dump's \restrict, \unrestrict and \connect: each a line between two statements.
    return re.sub(r"^\\(?:restrict|unrestrict|connect) .*$", "", sql, flags=re.MULTILINE)


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
