"""Types: mypy, strict, over everything; what ships apart, as the interpreter that it has is another."""

from __future__ import annotations

from pathlib import Path

from zmanim_ami.gate.finding import Finding, complaints, tool

PARTS = ("zmanim_ami", "localcloud", "support", "tests", "tasks.py", "noxfile.py")
SHIPPED = "infrastructure/packer/files/zmanim_host"


def check(tree: Path, cache: Path | None = None) -> list[Finding]:
    """Return mypy's errors; `cache` is its cache's directory (default: the tree's own)."""
    mypy = [tool("mypy"), f"--cache-dir={cache or '.mypy_cache'}", "--no-error-summary", "--hide-error-context"]
    parts = [part for part in PARTS if (tree / part).exists()]
    findings = [*complaints([*mypy, *parts], tree), *complaints([*mypy, "--python-version=3.11", SHIPPED], tree)]
    return [finding for finding in findings if not finding.words.startswith("note: ")]
