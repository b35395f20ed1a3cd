"""Foreseeable failures, told in the same four parts everywhere.

A person who meets one reads what happened, what was expected, what was found and what to do next; a script reads the
exit code. Anything that is not a `Fault` is a bug in this project and keeps its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class Fault(Exception):
    """Something foreseeable went wrong while doing what was asked (exit code 1).

    Every cause is a subclass of its own, so that a caller can tell one from another without reading text.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, summary: str, *, expected: str = "", found: str = "", fix: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.expected = expected
        self.found = found
        self.fix = fix

    def __str__(self) -> str:
        lines = [self.summary]
        lines += [
            f"  {label:<9} {text}"
            for label, text in (("expected:", self.expected), ("found:", self.found), ("fix:", self.fix))
            if text
        ]
        return "\n".join(lines)


class BadInput(Fault):
    """What was asked for can't be meant, or is refused on purpose (exit code 2)."""

    exit_code: ClassVar[int] = 2


class HostLacks(Fault):
    """This host lacks a program, a privilege or a resource that the work needs (exit code 3)."""

    exit_code: ClassVar[int] = 3
