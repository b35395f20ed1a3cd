"""A plugin of pytest (`-p tests.gate.reads`) that writes down which files and folders of the tree a test looks at.

READS_REPORT names the file for the report: {"read": [path, …], "listed": [folder, …]}, relative to the tree.
Of a program that a test starts is seen what its arguments name, not what it opens itself.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from tests.support import ROOT

_READ: set[str] = set()
_LISTED: set[str] = set()


def _note(found: set[str], path: object) -> None:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, (str, os.PathLike)) and path:
        found.add(os.path.abspath(path))  # noqa: PTH100 - a link is read as itself, too


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        _note(_READ, arguments[0])
    elif event in {"os.scandir", "os.listdir"}:
        _note(_LISTED, arguments[0] if arguments[0] is not None else ".")
    elif event == "subprocess.Popen":
        for word in arguments[1]:
            for part in os.fsdecode(word).replace("=", " ").split():
                _note(_READ, part)


def pytest_configure() -> None:
    """Begin to look, before any test is loaded."""
    sys.addaudithook(_hook)


def pytest_unconfigure() -> None:
    """Write the report."""
    read, listed = (_below(found) for found in (_READ, _LISTED))
    Path(os.environ["READS_REPORT"]).write_text(json.dumps({"read": read, "listed": listed}))


def _below(found: set[str]) -> list[str]:
    root = f"{ROOT}/"
    return sorted(path.removeprefix(root) for path in found if path.startswith(root))
