"""Which files of the tree the tests of a run read: the check `unit` of the gate holds each folder to what it declares.

GATE_READS names the file for the report, a name relative to the tree on each line. Of a program that a test starts is
seen what its arguments name, not what it opens itself.
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import Any

from tests.support import ROOT

_read: set[str] = set()


def _note(path: object) -> None:
    if isinstance(path, bytes):
        path = os.fsdecode(path)
    if isinstance(path, (str, os.PathLike)) and path:
        # A module is read from what was compiled for it before. And no resolve(): a link is read as itself, too.
        name = re.sub(r"__pycache__/(\w+)\.cpython-[\w.-]+\.pyc.*", r"\1.py", os.path.abspath(path))  # noqa: PTH100
        _read.add(name)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if event == "open":
        _note(arguments[0])
    elif event == "subprocess.Popen":
        for word in arguments[1]:
            for part in os.fsdecode(word).replace("=", " ").split():
                _note(part)


if os.environ.get("GATE_READS"):
    sys.addaudithook(_hook)


def pytest_unconfigure() -> None:
    """Write the report."""
    report = os.environ.get("GATE_READS")
    if report:
        root = f"{ROOT}/"
        Path(report).write_text(
            "".join(f"{path.removeprefix(root)}\n" for path in sorted(_read) if path.startswith(root))
        )
