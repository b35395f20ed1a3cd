"""Every check of the gate: what it is for, what of the definition of done it proves, what can change its mind."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zmanim_ami.gate.finding import Finding

# What every check stands on: a change here may change any of them.
_GATE = r"gate/|noxfile\.py|requirements\.txt|pyproject\.toml"
_IMAGE = r"infrastructure/packer/"
_SCRIPTS = r".*\.sh$|inv$|\.ci/|.*\.shellcheckrc$"
_TOOLS = r"toolchain/|tools/"
_PAGES = r".*\.md$|tasks\.py|commands/|infrastructure/|pipeline/contents"
_SEEN_BY_TESTS = r".*\.py$|infrastructure/|tests/|docs/|README\.md|inv$|api/"
_PYTHON = r".*\.py$"


@dataclass(frozen=True)
class Check:
    """One check: its module `gate.NAME` has `check(tree) -> list[Finding]`.

    Where a change of some files is looked at in less than everything, it has `check_changed(tree, changed)` besides.
    `proves` are the points of the definition of done that it proves. `touched_by` matches the files whose change it may
    answer differently to.
    """

    name: str
    purpose: str
    touched_by: str
    proves: tuple[int, ...] = ()

    @property
    def check(self) -> Callable[[Path], list[Finding]]:
        """Return its function; only now its module is loaded, with what that needs."""
        function: Callable[[Path], list[Finding]] = importlib.import_module(f"gate.{self.name}").check
        return function

    def check_changed(self, tree: Path, changed: Sequence[str]) -> list[Finding]:
        """Return what it finds where only what a change of these files can affect is asked for."""
        less: Callable[[Path, Sequence[str]], list[Finding]] | None
        less = getattr(importlib.import_module(f"gate.{self.name}"), "check_changed", None)
        return less(tree, changed) if less else self.check(tree)

    @property
    def title(self) -> str:
        """Return its purpose and what it proves, in one line."""
        return f"{self.purpose} (DoD {', '.join(map(str, self.proves))})" if self.proves else self.purpose

    def is_affected_by(self, changed: Iterable[str]) -> bool:
        """Tell whether a change of these files may change its answer."""
        pattern = re.compile(f"{_GATE}|{self.touched_by}")
        return any(pattern.match(name) for name in changed)


CHECKS: Mapping[str, Check] = {
    each.name: each
    for each in (
        # The slowest first: they all start in this order, as many at once as there are processors.
        Check("unit", "unit tests, and how much they reach", _SEEN_BY_TESTS),
        Check("secrets", "no secret in the tree", r".*"),
        Check("types", "types: mypy, strict", _PYTHON),
        Check("packer", "the template: packer fmt, init, validate, its meaning", rf"{_IMAGE}|pipeline/|{_TOOLS}", (1,)),
        Check("go", "the reference API: gofmt, go vet, staticcheck, its tests with -race", rf"api/|{_TOOLS}"),
        Check("shipped", "Python that ships: 3.9 and its standard library", _IMAGE),
        Check("docs", "generated pages are current, commands exist, links lead somewhere", _PAGES),
        Check("workflows", "YAML and workflows: yamllint, schema, zizmor, trigger, pins", r".*\.ya?ml$", (5,)),
        Check("shell", "shell scripts: bash -n, shellcheck, shfmt, this project's rules", _SCRIPTS, (3, 8)),
        Check("units", "each systemd unit: verify, exposure, calendars, directives of 252", rf"{_IMAGE}files/", (4,)),
        Check("wiring", "the units together: started, ordered, with programs and places that exist", _IMAGE, (4,)),
        Check("imports", "directions between the parts: import-linter", _PYTHON),
        Check("python", "Python: ruff, lint and format", _PYTHON),
        Check("configuration", "the servers' effective settings, the API's template", rf"{_IMAGE}files/|api/", (6, 7)),
        Check("versions", "the versions file: schema, checksums, review dates", rf"{_IMAGE}versions"),
        Check("iam", "IAM policies: known actions, nothing wider than needed", r"infrastructure/iam/"),
        Check("rehearsed", "whether a rehearsal has proven this tree", r".*", (2,)),
    )
}  # fmt: skip
