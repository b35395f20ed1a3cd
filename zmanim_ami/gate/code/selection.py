"""Which unit tests a change may turn: those that import what has changed, name it, or read it.

Apart from zmanim_ami/gate/changed.py, which noxfile.py imports: the graph of imports takes its time to load.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import grimp

TESTS = Path("tests/unit")
_PACKAGES = ("support", "localcloud", "zmanim_ami", "tests")
_SHIPPED = Path("infrastructure/packer/files")
# What every test stands on.
_ALL = re.compile(r"pyproject\.toml|requirements\.txt|tests/conftest\.py|tests/(unit/)?__init__\.py")
# What a test reads that imports tasks.py, which is in no package and so not in the graph: it loads every task.
_OF_TASKS = re.compile(rf"({'|'.join(_PACKAGES[:-1])})/.*\.py|tasks\.py")
_IMPORTS_TASKS = re.compile(r"^import tasks$", re.MULTILINE)
# What a test reads without naming each file of it: it lists a folder, or a module that it calls reads the file.
# tests/gate/test_changed.py runs every test and sees that nothing is missing here.
READS: Mapping[str, re.Pattern[str]] = {
    name: re.compile(pattern)
    for name, pattern in {
        "commands/test_bump_task": r"\.github/workflows/|infrastructure/packer/versions",
        "pipeline/docs/test_tree": r"infrastructure/packer/|docs/.*\.json",
        "pipeline/docs/test_inventory": r"infrastructure/packer/|docs/.*\.json",
        "workflows/test_github_workflows": r"\.github/workflows/",
        "infrastructure/test_iam_policies": r"infrastructure/iam/",
        "infrastructure/test_iam_release": r"infrastructure/iam/",
        "infrastructure/test_files": r"infrastructure/packer/",
        "infrastructure/test_packages": r"infrastructure/packer/scripts/(lib\.sh|specs/)",
        "host/release/test_bundle": r"tools/",
        "host/secrets/test_parameter_table": r"infrastructure/packer/files/[^/]*\.service",
        "pipeline/account/test_requirements": r"infrastructure/iam/",
        "pipeline/backup/test_remote": r"infrastructure/iam/",
        "pipeline/ami/test_binary": r"tools/",
        "pipeline/pins/test_bump": r"\.github/workflows/|infrastructure/packer/versions",
        "pipeline/ami/test_packer": r"tests/unit/pipeline/ami/packer_outputs/|infrastructure/packer/[^/]*\.hcl",
        "pipeline/pins/test_resolve": r"tests/unit/pipeline/pins/dnf_outputs/",
        "pipeline/verify/test_summary": r"zmanim_ami/pipeline/verify/inspect\.sh",
        "pipeline/verify/test_verification": r"zmanim_ami/pipeline/verify/inspect\.sh",
        "rehearsal/standin/test_debian": r"zmanim_ami/rehearsal/standin/",
        "rehearsal/standin/test_packages": r"zmanim_ami/rehearsal/standin/",
        "rehearsal/standin/test_rpms": r"zmanim_ami/rehearsal/standin/",
        "toolchain/test_go": r"tools/|zmanim_ami/toolchain/",
    }.items()
}


def tests_of(tree: Path, changed: Iterable[str]) -> list[str]:
    """Return the unit tests that a change of these files may turn: they import it, name it, or read it (READS)."""
    return [test for test, names in seen(tree, changed).items() if names]


def seen(tree: Path, names: Iterable[str], tests: Sequence[str] = ()) -> dict[str, list[str]]:
    """Return, for each file of unit tests in order (or for `tests` alone), which of these files it can see."""
    every = [_Seen.of(name) for name in names]
    tests = tests or sorted(str(path.relative_to(tree)) for path in (tree / TESTS).rglob("test_*.py"))
    imported = _imported(tree, tests) if any(each.module for each in every) else {}
    found = {}
    for test in tests:
        text = (tree / test).read_text()
        reads = READS.get(test.removeprefix("tests/unit/").removesuffix(".py"))
        modules = imported.get(test, set())
        loads_tasks = _IMPORTS_TASKS.search(text) is not None
        found[test] = [
            each.name
            for each in every
            if each.name == test
            or each.by_all
            or each.module in modules
            or (reads is not None and reads.match(each.name))
            or (loads_tasks and each.of_tasks)
            # Who imports a module of ours is known exactly.
            or (not each.is_ours and each.base in text)
        ]
    return found


@dataclass(frozen=True)
class _Seen:
    """A file, and what decides who sees it: worked out once, and not once for each file of tests."""

    name: str
    base: str
    module: str | None
    by_all: bool
    of_tasks: bool
    is_ours: bool

    @classmethod
    def of(cls, name: str) -> _Seen:
        path = Path(name)
        is_python = path.suffix == ".py"
        return cls(
            name,
            path.name,
            module=_module(path) if is_python else None,
            by_all=_ALL.fullmatch(name) is not None,
            of_tasks=_OF_TASKS.fullmatch(name) is not None,
            is_ours=is_python and not path.is_relative_to(_SHIPPED) and path.parts[0] in _PACKAGES,
        )


def _imported(tree: Path, tests: Iterable[str]) -> dict[str, set[str]]:
    """Return the modules that are run when each of `tests` is imported, its own among them."""
    before = list(sys.path)
    sys.path[:0] = [str(tree), str(tree / _SHIPPED)]
    try:
        graph = grimp.build_graph(
            *(name for name in _PACKAGES if (tree / name).is_dir()), "zmanim_host", cache_dir=None
        )
    finally:
        sys.path[:] = before
    for module in graph.modules:
        # Whoever imports a module runs the packages that it is in, and what those import.
        package = module.rpartition(".")[0]
        if package in graph.modules:
            graph.add_import(importer=module, imported=package)
    modules = {test: _module(Path(test)) for test in tests}
    return {
        test: {module, *graph.find_upstream_modules(module)}
        for test, module in modules.items()
        if module in graph.modules
    }


def _module(path: Path) -> str:
    if path.is_relative_to(_SHIPPED):
        path = path.relative_to(_SHIPPED)
    parts = path.with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
