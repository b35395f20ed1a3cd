"""What a mistyped command line is told: in this project's words, with exit code 2, as every other bad input."""

from __future__ import annotations

import difflib
import re
import sys
from collections.abc import Mapping
from typing import Any

from invoke.exceptions import Exit, ParseError
from invoke.parser import Parser

from support.errors import BadInput

_UNKNOWN = re.compile(r"No idea what '(.+)' is!", re.DOTALL)


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

    parser: Any = Parser
    parser.parse_argv = parse_argv


def _bad_input(error: ParseError, tasks: Mapping[str, Any]) -> BadInput:
    context: Any = error.context
    task = context.name if context is not None else None
    unknown = _UNKNOWN.fullmatch(str(error))
    found = unknown[1] if unknown else str(error)
    if unknown is None:
        return BadInput(
            f"{task or 'the command line'} is not complete",
            code="bad-flag",
            expected="a value behind each flag that takes one",
            found=found,
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
        fix=_near(found, [*tasks]) or "./inv --list",
    )


def _near(found: str, known: list[str]) -> str:
    near = difflib.get_close_matches(found, known, n=1)
    return f"did you mean {near[0]}?" if near else ""
