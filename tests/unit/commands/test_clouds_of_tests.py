"""The tests have clouds of their own: whoever runs them may have one up, and an unnamed command takes that."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import ROOT

# What these say of commands is looked at, not run.
QUOTING = {
    "tests/unit/commands/test_documented_commands.py",
    "tests/unit/commands/test_tasks.py",
    "tests/unit/commands/test_clouds_of_tests.py",
    "tests/unit/commands/tools/test_built_tools.py",
    "tests/faults/release/test_on_aws_page.py",
    "tests/unit/localcloud/host/test_requirements.py",
    "tests/unit/rehearsal/test_egress.py",
}
TASK = re.compile(r"cloud\.(up|down|env|ps|shell|console)")
LINE = re.compile(r"inv (cloud\.(?:up|down|env|ps|shell|console))(?! --name)")


def unnamed(source: str) -> Iterator[str]:
    """Yield each command about a cloud that names none, and each cloud that is made without a name."""
    tree = ast.parse(source)
    for node in (node for node in ast.walk(tree) if isinstance(node, ast.expr)):
        parts = node.args if isinstance(node, ast.Call) else node.elts if isinstance(node, ast.List | ast.Tuple) else []
        words = [part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str)]
        if any(map(TASK.fullmatch, words)) and "--name" not in words:
            yield f"line {node.lineno}: {' '.join(words)}"
        named = {keyword.arg for keyword in node.keywords} if isinstance(node, ast.Call) else set()
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "CloudSettings" and not named & {"name", "state"}:
            yield f"line {node.lineno}: CloudSettings without a name"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and LINE.search(node.value):
            yield f"line {node.lineno}: {node.value[:60]}"


@pytest.mark.incident("a test's cloud.down took the developer's own cloud, and what it held, with it")
def test_no_test_touches_a_cloud_that_it_has_not_named() -> None:
    found = {
        str(path.relative_to(ROOT)): list(unnamed(path.read_text()))
        for path in sorted((ROOT / "tests").rglob("*.py"))
        if str(path.relative_to(ROOT)) not in QUOTING
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_what_names_none_is_seen() -> None:
    assert list(unnamed('run(["inv", "cloud.down"])'))
    assert list(unnamed('host.run("./inv", "cloud.down")'))
    assert list(unnamed('bash("./inv cloud.up && true")'))
    assert list(unnamed("CloudSettings(images=())"))
    assert not list(unnamed('run(["inv", "cloud.down", "--name", name])'))
    assert not list(unnamed('bash("./inv cloud.up --name x")'))
    assert Path(__file__).relative_to(ROOT).as_posix() in QUOTING
