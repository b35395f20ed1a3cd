"""Results on stdout: a table for people, JSON for machines."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from support.progress import say


def show(result: object, as_json: bool) -> None:
    """Print a result, which is a frozen dataclass or a list of such, as JSON or as a table.

    Fields that a dataclass keeps out of its repr are left out here too. A list that is empty prints `[]` as JSON, and
    as a table nothing; a plan is its steps.
    """
    plain = _plain(result)
    if as_json:
        print(json.dumps(plain, indent=2))
        return
    is_plan = isinstance(plain, Mapping) and list(plain) == ["steps"]
    if is_plan:
        plain = plain["steps"]
    rows = plain if isinstance(plain, list) else [{"": name, " ": value} for name, value in plain.items()]
    if not rows:
        say("nothing to do" if is_plan else "none")
        return
    table = Table(*rows[0], box=None, header_style="bold")
    for row in rows:
        table.add_row(*(_text(value) for value in row.values()))
    # Piped, a table keeps its long lines whole.
    Console(width=None if sys.stdout.isatty() else 400).print(table, highlight=False, markup=False)


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        shown = (field.name for field in dataclasses.fields(value) if field.repr)
        return {name: _plain(getattr(value, name)) for name in shown}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return value if isinstance(value, str) else json.dumps(value)
