"""Directions between the parts: import-linter's contracts of pyproject.toml, and that they are about every part."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from zmanim_ami.gate.code import types
from zmanim_ami.gate.finding import Finding, ask, files, tool

_SHIPPED = Path(types.SHIPPED)


def check(tree: Path) -> list[Finding]:
    """Return each import that goes against a contract, and each part that pyproject.toml does not know."""
    result = ask([tool("lint-imports"), "--no-cache"], tree)
    if result.returncode == 0:
        return list(_unknown_parts(tree))
    broken = result.stdout.partition("Broken contracts")[2] or result.stdout + result.stderr
    lines = [line.strip() for line in broken.splitlines() if line.strip() and set(line.strip()) != {"-"}]
    return [*_unknown_parts(tree), *(Finding("", 0, line) for line in lines)]


def _unknown_parts(tree: Path) -> Iterator[Finding]:
    """Compare the packages and modules at the top with those that import-linter, ruff and mypy are told of."""
    tops = {path.parts[0] for path in files(tree) if path.parts[1:] == ("__init__.py",)}
    modules = {path.stem for path in files(tree) if path.suffix == ".py" and len(path.parts) == 1}
    settings = tomllib.loads((tree / "pyproject.toml").read_text())["tool"]
    configured = {
        "import-linter's root_packages": (set(settings["importlinter"]["root_packages"]), tops - {"tests"}),
        "ruff's known-first-party": (
            set(settings["ruff"]["lint"]["isort"]["known-first-party"]),
            {*tops, *modules, _SHIPPED.name} - {"noxfile"},
        ),
        "mypy's parts (zmanim_ami/gate/code/types.py)": (
            {part.removesuffix(".py") for part in types.PARTS},
            tops | modules,
        ),
    }
    for what, (named, existing) in configured.items():
        for name in sorted(named ^ existing):
            words = "is named and not there" if name in named else "is not named"
            yield Finding("pyproject.toml", 0, f"{what}: {name} {words}")
