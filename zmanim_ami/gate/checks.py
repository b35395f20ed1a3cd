"""Every check of the gate: what it is for, what of the definition of done it proves, what can change its mind."""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from zmanim_ami.gate.finding import Finding

# What every check stands on: a change here may change any of them.
_GATE = r"zmanim_ami/gate/|noxfile\.py|requirements\.txt|pyproject\.toml"
_IMAGE = r"infrastructure/packer/"
_SCRIPTS = r".*\.sh$|inv$|\.ci/|.*\.shellcheckrc$"
_FILES = rf"{_IMAGE}files/"
_TOOLS = r"zmanim_ami/toolchain/|tools/"
_TEMPLATE = rf"{_IMAGE}|zmanim_ami/pipeline/|{_TOOLS}"
_PAGES = r".*\.md$|tasks\.py|zmanim_ami/commands/|infrastructure/|zmanim_ami/pipeline/docs/"
_SEEN_BY_TESTS = r".*\.py$|infrastructure/|tests/|docs/|README\.md|inv$|api/"
_PYTHON = r".*\.py$"


@dataclass(frozen=True)
class Check:
    """One check: its module `zmanim_ami.gate.MODULE` has `check(tree) -> list[Finding]`.

    Where a change of some files is looked at in less than everything, it has `check_changed(tree, changed)` besides.
    `proves` are the points of the definition of done that it proves. `touched_by` matches the files whose change it may
    answer differently to.
    """

    module: str
    purpose: str
    touched_by: str
    proves: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """Return what a person calls it."""
        return self.module.rpartition(".")[2]

    @property
    def check(self) -> Callable[[Path], list[Finding]]:
        """Return its function; only now its module is loaded, with what that needs."""
        function: Callable[[Path], list[Finding]] = importlib.import_module(f"zmanim_ami.gate.{self.module}").check
        return function

    def check_changed(self, tree: Path, changed: Sequence[str]) -> list[Finding]:
        """Return what it finds where only what a change of these files can affect is asked for."""
        less: Callable[[Path, Sequence[str]], list[Finding]] | None
        less = getattr(self._module, "check_changed", None)
        return less(tree, changed) if less else self.check(tree)

    @property
    def _module(self) -> ModuleType:
        return importlib.import_module(f"zmanim_ami.gate.{self.module}")

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
        Check("code.unit", "unit tests, and how much they reach", _SEEN_BY_TESTS),
        Check("repository.secrets", "no secret in the tree", r".*"),
        Check("code.types", "types: mypy, strict", _PYTHON),
        Check("image.packer", "the template: packer fmt, init, validate, its meaning", _TEMPLATE, (1,)),
        Check("code.go", "the reference API: gofmt, go vet, staticcheck, its tests with -race", rf"api/|{_TOOLS}"),
        Check("image.install", "install.tsv: one row for every shipped file", _FILES, (2,)),
        Check("image.shipped", "Python that ships: 3.9 and its standard library", _IMAGE),
        Check("repository.docs", "generated pages are current, commands exist, links lead somewhere", _PAGES),
        Check("repository.workflows", "workflows: yamllint, schema, zizmor, trigger, pins", r".*\.ya?ml$", (5,)),
        Check("image.shell", "shell scripts: bash -n, shellcheck, shfmt, this project's rules", _SCRIPTS, (3, 8)),
        Check("units.units", "each systemd unit: verify, exposure, calendars, directives of 252", _FILES, (4,)),
        Check("units.wiring", "the units together: started, ordered, with programs that exist", _IMAGE, (4,)),
        Check("code.imports", "directions between the parts, and that tools know them all", _PYTHON),
        Check("code.python", "Python: ruff, lint and format", _PYTHON),
        Check("image.configuration", "the servers' effective settings, the API's template", rf"{_FILES}|api/", (6, 7)),
        Check("image.versions", "the versions file: schema, checksums, review dates", rf"{_IMAGE}versions"),
        Check("repository.iam", "IAM policies: known actions, nothing wider than needed", r"infrastructure/iam/"),
        Check("repository.rehearsed", "whether a rehearsal has proven this tree", r".*", (2,)),
    )
}
