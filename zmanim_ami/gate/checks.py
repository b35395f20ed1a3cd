"""Every check of the gate: its tools, what it proves of the definition of done, and the files that it reads."""

from __future__ import annotations

import importlib
import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zmanim_ami.gate.finding import Finding

# What every check stands on: a change here may change any of them.
_GATE = r"zmanim_ami/gate/|support/|noxfile\.py|requirements|pyproject\.toml"
_ALL = r".*"
_PYTHON = r".*\.py$"
_FILES = r"infrastructure/packer/(files/|versions)|zmanim_ami/pipeline/(docs|pins|shipped)/"
_SHIPPED = r"infrastructure/packer/(files/|.*\.py$)"
_SCRIPTS = r".*\.sh$|(.*/)?[^./]+$|.*\.shellcheckrc$|\.editorconfig$"
_TOOLS = r"zmanim_ami/toolchain/|tools/"
_TEMPLATE = rf"infrastructure/packer/|zmanim_ami/pipeline/|{_TOOLS}"
_API = rf"api/|{_TOOLS}"
_SET_UP = rf"{_FILES}|api/"
_POLICIES = r"infrastructure/iam/"
_LOCKS = r"zmanim_ami/(pipeline/pins|toolchain)/"
_CHOSEN = r"zmanim_ami/|infrastructure/|localcloud/|\.github/"
# What the rows ask, and what is searched for calls that need one.
_CLOUD = r"localcloud/|tests/(contract/|support/|\w+\.py)|zmanim_ami/|infrastructure/(iam|packer)/|docs/|README"
_PAGES = r"tests/.*\.py$|.*\.md$"
_WORKFLOWS = r".*\.ya?ml$|\.github/"


@dataclass(frozen=True)
class Check:
    """One check: its module `zmanim_ami.gate.MODULE` has `check(tree) -> Iterable[Finding]`.

    `inputs` matches the files that it reads, `proves` are the points of the definition of done that it proves. A check
    `in_parts` takes the changed files as well (None: everything) and then looks only at what these can affect.
    """

    module: str
    purpose: str
    inputs: str
    proves: tuple[int, ...] = ()
    in_parts: bool = False

    @property
    def name(self) -> str:
        """Return what a person calls it."""
        return self.module.rpartition(".")[2]

    @property
    def title(self) -> str:
        """Return its purpose and what it proves, in one line."""
        return f"{self.purpose} (DoD {', '.join(map(str, self.proves))})" if self.proves else self.purpose

    def reads(self, name: str) -> bool:
        """Tell whether a change of this file may change its result."""
        return re.match(f"{_GATE}|{self.inputs}", name) is not None

    def run(self, tree: Path, changed: Collection[str] | None = None) -> Iterable[Finding]:
        """Return its findings; only now its module is loaded, with what that needs.

        What takes long comes last: who looks for one finding, and has it, need not wait for that.
        """
        module = importlib.import_module(f"zmanim_ami.gate.{self.module}")
        findings: Iterable[Finding] = module.check(tree, changed) if self.in_parts else module.check(tree)
        return findings


CHECKS: Mapping[str, Check] = {
    each.name: each
    for each in (
        # The slowest first: they all start in this order, as many at once as there are processors.
        Check("code.unit", "pytest: unit tests; they cover 90 % of pipeline/ and of zmanim_host/", _ALL, in_parts=True),
        Check("code.contract", "pytest: the local cloud answers as AWS documents it, row by row", _CLOUD),
        Check("repository.secrets", "detect-secrets: no secret in the tree", _ALL, in_parts=True),
        Check("code.types", "mypy: strict types", _PYTHON),
        Check("image.packer", "packer fmt, init, validate; what the template means", _TEMPLATE, (1,), in_parts=True),
        Check("code.go", "gofmt, go vet, staticcheck, go test -race: the reference API", _API),
        Check("image.install", "install.tsv: one row for every shipped file", _FILES, (2,)),
        Check("image.shipped", "vermin: what ships in Python needs 3.9 and no package", _SHIPPED),
        Check("repository.docs", "pages: generated ones are current; names and links", _ALL, in_parts=True),
        Check("repository.campaign", "faults: each has a test that says so; pages name tests that there are", _PAGES),
        Check("repository.workflows", "yamllint, check-jsonschema, zizmor: workflows, their trigger", _WORKFLOWS, (5,)),
        Check("image.shell", "bash -n, shellcheck, shfmt; this project's rules", _SCRIPTS, (3, 8), in_parts=True),
        Check("units.units", "systemd-analyze verify, security, calendar: each unit", _FILES, (4,)),
        Check("units.addresses", "no service can ask the metadata service but those that have to", _FILES),
        Check("units.wiring", "units together: started, ordered, with programs that exist", _FILES, (4,)),
        Check("code.imports", "import-linter: directions between the packages; tools know them all", _PYTHON),
        Check("code.python", "ruff check, ruff format; sizes of folders and modules", _PYTHON),
        Check("code.wheels", "locks: a wheel of each pin for every promised host and Python", _LOCKS),
        Check("image.configuration", "effective postgresql.conf, pg_hba.conf and redis.conf", _SET_UP, (6, 7)),
        Check("image.versions", "versions.json: schema, checksums, review dates", _FILES),
        Check("repository.settings", "what a setting chooses stands in the settings alone", _CHOSEN),
        Check("repository.iam", "IAM policies: actions that AWS has, nothing wider than needed", _POLICIES),
        Check("repository.rehearsed", "whether a rehearsal here has built an image of this tree", _ALL, (2,)),
    )
}
