"""What a change touches: the files that differ from where this branch left main, and the tests that can see them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

TESTS = Path("tests/unit")
_PACKAGES = ("support", "toolchain", "pipeline", "localcloud", "rehearsal", "gate", "bench", "commands", "tests")
_SHIPPED = Path("infrastructure/packer/files")


def changed_files(tree: Path) -> list[str]:
    """Return the files that differ from the merge base with main, committed or not, new ones and removed ones too.

    Without a branch main (a CI's shallow clone has none) everything counts as changed.
    """
    base = next((found for name in ("main", "origin/main") if (found := _git(tree, "merge-base", "HEAD", name))), "")
    if not base:
        return _git(tree, "ls-files").splitlines()
    differing = _git(tree, "diff", "--name-only", "--no-renames", base.strip()).splitlines()
    new = _git(tree, "ls-files", "--others", "--exclude-standard").splitlines()
    return sorted({*differing, *new})


def tests_of(tree: Path, changed: Iterable[str]) -> list[str]:
    """Return the unit tests that a change of these files may turn: they import it, or name it or its directory.

    A file that no test names or imports still turns those that read the whole tree (they say ROOT).
    """
    names = [name for name in changed if not name.endswith(".md") or name.startswith("docs/")]
    tests = sorted(str(path.relative_to(tree)) for path in (tree / TESTS).glob("test_*.py"))
    importers = _importers(tree, [name for name in names if name.endswith(".py")])
    found = []
    for test in tests:
        text = (tree / test).read_text()
        if test in names or test in importers or any(_names(text, Path(name)) for name in names):
            found.append(test)
    return found


def _names(text: str, path: Path) -> bool:
    if path.suffix == ".py" and not path.is_relative_to(_SHIPPED):
        return False  # who imports it is known exactly
    return path.name in text or (
        path.is_relative_to("infrastructure") and ("PACKER" in text or "infrastructure" in text)
    )


def _importers(tree: Path, changed: list[str]) -> set[str]:
    import grimp  # noqa: PLC0415 - noxfile.py imports this module for nothing but changed_files

    modules = {_module(Path(name)) for name in changed}
    if not modules:
        return set()
    before = list(sys.path)
    sys.path[:0] = [str(tree), str(tree / _SHIPPED)]
    try:
        graph = grimp.build_graph(
            *(name for name in _PACKAGES if (tree / name).is_dir()), "zmanim_host", cache_dir=None
        )
    finally:
        sys.path[:] = before
    found = {f"{name.replace('.', '/')}.py" for name in modules}
    for module in modules & graph.modules:
        found |= {f"{name.replace('.', '/')}.py" for name in graph.find_downstream_modules(module)}
    return found


def _module(path: Path) -> str:
    if path.is_relative_to(_SHIPPED):
        path = path.relative_to(_SHIPPED)
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _git(tree: Path, *arguments: str) -> str:
    command = ["git", "-c", f"safe.directory={tree.absolute()}", "-c", "core.quotePath=false", *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False).stdout
