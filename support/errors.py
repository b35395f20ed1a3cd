"""Foreseeable failures, told in the same four parts everywhere.

A person who meets one reads what happened, what was expected, what was found and what to do next; a script reads the
exit code. Anything that is not an `Error` is a bug in this project and keeps its traceback.
"""

from __future__ import annotations

import re
from typing import ClassVar


class Error(Exception):
    """Something foreseeable went wrong while doing what was asked (exit code 1).

    `code` tells one cause from another without reading text, such as `image-exists`. A cause that somebody catches is a
    subclass, and its code is the class's name.
    """

    exit_code: ClassVar[int] = 1

    def __init__(self, summary: str, *, code: str = "", expected: str = "", found: str = "", fix: str = "") -> None:
        super().__init__(summary)
        self.summary = summary
        self.code = code or re.sub(r"(?<!^)(?=[A-Z])", "-", type(self).__name__).lower()
        self.expected = expected
        self.found = found
        self.fix = fix

    def __str__(self) -> str:
        parts = {name: getattr(self, name) for name in ("expected", "found", "fix", "code")}
        return "\n".join([self.summary, *(f"  {name + ':':<9} {text}" for name, text in parts.items() if text)])


class BadInput(Error):
    """What was asked for can't be meant, or is refused on purpose (exit code 2)."""

    exit_code: ClassVar[int] = 2


class HostLacks(Error):
    """This host lacks a program, a privilege or a resource that the work needs (exit code 3)."""

    exit_code: ClassVar[int] = 3
