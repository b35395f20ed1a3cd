"""GitHub's expressions (`${{ … }}`), as far as this project's workflows use them; any other is an error.

https://docs.github.com/actions/reference/workflows-and-actions/expressions
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<number>-?\d+(?:\.\d+)?)|(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<sign>\|\||&&|==|!=|[!().,]))"
)
_INSIDE = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
_WORDS = {"true": True, "false": False, "null": None}


class ExpressionUnknown(ValueError):
    """Not an expression, or one that is not known here."""


class Evaluator:
    """Evaluates expressions in a context: `github`, `inputs`, `vars`, …; `status` answers success() and the like."""

    def __init__(self, context: Mapping[str, Any], status: Mapping[str, bool]) -> None:
        self._context = context
        self._functions: Mapping[str, Callable[..., Any]] = {
            "always": lambda: True,
            "success": lambda: status["success"],
            "failure": lambda: status["failure"],
            "cancelled": lambda: status["cancelled"],
            "format": lambda text, *values: re.sub(r"\{(\d+)\}", lambda m: to_text(values[int(m[1])]), text),
        }

    def text(self, template: str) -> str:
        """Return a text with its `${{ … }}` filled in."""
        return _INSIDE.sub(lambda found: to_text(self.value(found[1])), template)

    def condition(self, text: str, default: str = "success()") -> bool:
        """Return whether an `if` holds: one that asks for no status asks for success() as well."""
        inside = _INSIDE.fullmatch(text.strip())
        source = (inside[1] if inside else text).strip() or default
        asked = re.search(r"\b(always|success|failure|cancelled)\(", source)
        return truth(self.value(source)) and (bool(asked) or truth(self.value("success()")))

    def value(self, source: str) -> Any:
        """Return an expression's value. Raises ExpressionUnknown."""
        tokens, end = [], 0
        while source[end:].strip():
            found = _TOKEN.match(source, end)
            if not found:
                raise ExpressionUnknown(f"{source[end:].strip()!r} in {source!r}")
            tokens.append((str(found.lastgroup), found[str(found.lastgroup)]))
            end = found.end()
        self._tokens, self._at, self._source = tokens, 0, source
        value = self._or()
        if self._at != len(tokens):
            raise ExpressionUnknown(f"{tokens[self._at][1]!r} in {source!r}")
        return value

    def _take(self, *signs: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in {("sign", sign) for sign in signs}:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _or(self) -> Any:
        value = self._and()
        while self._take("||"):
            other = self._and()
            value = value if truth(value) else other
        return value

    def _and(self) -> Any:
        value = self._equality()
        while self._take("&&"):
            other = self._equality()
            value = other if truth(value) else value
        return value

    def _equality(self) -> Any:
        value = self._not()
        while sign := self._take("==", "!="):
            value = _same(value, self._not()) == (sign == "==")
        return value

    def _not(self) -> Any:
        return not truth(self._not()) if self._take("!") else self._primary()

    def _primary(self) -> Any:
        if self._take("("):
            value = self._or()
            self._need(")")
            return value
        if self._at >= len(self._tokens):
            raise ExpressionUnknown(f"{self._source!r} ends too early")
        kind, token = self._tokens[self._at]
        self._at += 1
        if kind == "number":
            return float(token)
        if kind == "text":
            return token[1:-1].replace("''", "'")
        if kind != "name":
            raise ExpressionUnknown(f"{token!r} in {self._source!r}")
        if token in _WORDS:
            return _WORDS[token]
        return self._call(token) if self._take("(") else self._look_up(token)

    def _call(self, name: str) -> Any:
        if name not in self._functions:
            raise ExpressionUnknown(f"the function {name}")
        arguments = []
        while not self._take(")"):
            arguments.append(self._or())
            if not self._take(","):
                self._need(")")
                break
        return self._functions[name](*arguments)

    def _look_up(self, name: str) -> Any:
        if name not in self._context:
            raise ExpressionUnknown(f"the context {name}")
        value = self._context[name]
        while self._take("."):
            kind, token = self._tokens[self._at]
            if kind != "name":
                raise ExpressionUnknown(f"{token!r} in {self._source!r}")
            self._at += 1
            # What a context lacks is null, as on GitHub; `github` has only what a test has thought of.
            if name == "github" and token not in value:
                raise ExpressionUnknown(f"github.{token}")
            value = value.get(token) if isinstance(value, Mapping) else None
        return value

    def _need(self, sign: str) -> None:
        if not self._take(sign):
            raise ExpressionUnknown(f"{self._source!r} lacks a {sign!r}")


def truth(value: Any) -> bool:
    """Return whether a value counts as true."""
    return value not in (None, False, 0, "")


def to_text(value: Any) -> str:
    """Return a value as it stands in a text."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return one.casefold() == other.casefold()
    if type(one) is type(other):
        return bool(one == other)
    return _number(one) == _number(other)


def _number(value: Any) -> float:
    if value is None or value == "":
        return 0.0
    try:
        return float(value)
    except ValueError:
        return float("nan")
