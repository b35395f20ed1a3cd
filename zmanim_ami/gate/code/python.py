"""Python: lint and format by ruff; no folder and no module so large that nobody finds their way in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from zmanim_ami.gate.finding import Finding, complaints, files, tool

MODULES = 14  # at most in a folder, __init__.py not counted
LINES = 400  # at most in a module


def check(tree: Path) -> Iterator[Finding]:
    """Yield ruff's complaints, the files that it would write in another way, and what is too large."""
    options = ["--quiet", "--no-cache", "--output-format=concise", "."]
    yield from _too_large(tree)
    yield from complaints([tool("ruff"), "check", *options], tree)
    for each in complaints([tool("ruff"), "format", "--check", *options], tree):
        yield replace(each, words=f"not as ruff writes it: ruff format {each.file}")


def _too_large(tree: Path) -> Iterator[Finding]:
    modules = [path for path in files(tree) if path.suffix == ".py"]
    folders = Counter(path.parent for path in modules if path.name != "__init__.py")
    for folder, count in folders.items():
        if count > MODULES:
            yield Finding(str(folder), 0, f"{count} modules in one folder, at most {MODULES} are allowed")
    for path in modules:
        lines = len((tree / path).read_text().splitlines())
        if lines > LINES:
            yield Finding(str(path), 0, f"{lines} lines in one module, at most {LINES} are allowed")
