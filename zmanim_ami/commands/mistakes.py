"""What a mistyped command line is told: in this project's words, with exit code 2, as every other bad input."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser

from support.errors import BadInput

_UNKNOWN = re.compile(r"No idea what '(.+)' is!", re.DOTALL)
_NO_VALUE = re.compile(r"Flag <Argument: (\w+).*> needed value and was not given one!")
# What int() says, as it is called for a flag that takes a number.
_NO_NUMBER = re.compile(r"invalid literal for int\(\) with base 10: (['\"])(.*)\1", re.DOTALL)


def explain() -> None:
    """Let Invoke explain mistakes so.

    It has no place for that: it parses in its own Program, which is made before tasks.py is loaded.
    """
    parse: Any = Parser.parse_argv

    def parse_argv(parser: Parser, argv: list[str]) -> Any:
        try:
            return parse(parser, argv)
        except ParseError as error:
            if sys.argv[1:2] == ["--complete"]:  # half a flag is no mistake there, and Invoke wants its own words of it
                raise
            raise Exit(str(_bad_input(error, parser.contexts)), code=BadInput.exit_code) from None
        except ValueError as error:
            raise Exit(str(_no_number(error, argv)), code=BadInput.exit_code) from None

    parser: Any = Parser
    parser.parse_argv = parse_argv


def _bad_input(error: ParseError, tasks: Mapping[str, Any]) -> BadInput:
    context: Any = error.context
    task = context.name if context is not None else None
    unknown = _UNKNOWN.fullmatch(str(error))
    found = unknown[1] if unknown else str(error)
    if unknown is None:
        lacking = _NO_VALUE.fullmatch(found)
        flag = f"--{lacking[1].replace('_', '-')}" if lacking else ""
        return BadInput(
            f"{task or 'the command line'} is not complete",
            code="bad-flag",
            expected=f"a value behind {flag}" if flag else "a value behind each flag that takes one",
            found="none" if flag else found,
            fix=f"./inv {task} --help" if task else "./inv --list",
        )
    if found.startswith("-") and task:
        flags = sorted(each for each in context.flags if each.startswith("--"))
        return BadInput(
            f"{task} has no flag {found}",
            code="bad-flag",
            expected=f"one of {', '.join(flags)}" if flags else "no flag",
            found=found,
            fix=_near(found, flags) or f"./inv {task} --help explains them",
        )
    # A word behind a task is the next task to Invoke.
    return BadInput(
        f"there is no task {found}" + (f", and {task} takes nothing by position" if task else ""),
        code="bad-flag" if found.startswith("-") else "no-such-task",
        expected="a task" + (f", or a flag of {task}" if task else ""),
        found=found,
        fix=_near(found, [*tasks]) or (f"./inv {task} --help" if task else "./inv --list"),
    )


def _no_number(error: ValueError, argv: list[str]) -> BadInput:
    match = _NO_NUMBER.fullmatch(str(error))
    given = match[2] if match else str(error)
    flag = next((each for each, value in pairwise(argv) if value == given), "")
    return BadInput(
        f"{flag or 'a flag'} can't be {given!r}",
        code="bad-flag",
        expected="a whole number",
        found=repr(given),
        fix="--help behind the task explains its flags",
    )


def _near(found: str, known: list[str]) -> str:
    near = difflib.get_close_matches(found, known, n=1)
    return f"did you mean {near[0]}?" if near else ""
