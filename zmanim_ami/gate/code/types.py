"""Types: mypy, strict, over everything; what ships apart, as the interpreter that it has is another."""

from __future__ import annotations

from pathlib import Path

from zmanim_ami.gate.finding import Finding, ask, located, tool

PARTS = (
    *("zmanim_ami", "localcloud", "support", "tests"),
    *("tasks.py", "noxfile.py"),
)
SHIPPED = "infrastructure/packer/files/zmanim_host"


def check(tree: Path, cache: Path | None = None) -> list[Finding]:
    """Return mypy's errors; `cache` is its cache's directory (default: the tree's own)."""
    found = []
    options = [f"--cache-dir={cache or '.mypy_cache'}", "--no-error-summary", "--hide-error-context"]
    there = [part for part in PARTS if (tree / part).exists()]
    for command in ([*there], ["--python-version=3.11", SHIPPED]):
        said = ask([tool("mypy"), *options, *command], tree)
        if said.returncode != 0:
            lines = [line for line in (said.stdout + said.stderr).splitlines() if ": note: " not in line]
            found += located(lines, tree)
    return found
