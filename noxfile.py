"""The tests, by name. `./nox` runs what a merge needs; `./nox --list` shows the rest.

Every session runs in the project's one .venv (made by ./nox from requirements.txt), so installing happens once.
Sessions of the gate run side by side by Nox's own means.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

ROOT = Path(__file__).parent
if Path(sys.prefix) != ROOT / ".venv":
    # A Nox from elsewhere has none of the tools: hand over to the one that has them, with the same arguments.
    os.execv(ROOT / "nox", [str(ROOT / "nox"), *sys.argv[1:]])

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["verify", "machines"]
nox.options.parallel = os.cpu_count() or 1
nox.options.stop_on_first_error = False

PACKER = ROOT / "infrastructure" / "packer"
PARTS = ["commands", "support", "toolchain", "pipeline", "localcloud", "rehearsal", "gate", "bench", "tests"]
SHIPPED_PYTHON = PACKER / "files" / "zmanim_host"


def _shell_files() -> list[str]:
    return [str(path) for path in [ROOT / "inv", ROOT / ".ci" / "run", *sorted(PACKER.rglob("*.sh"))]]


@nox.session(default=False, allow_parallel=True)
def python(session: nox.Session) -> None:
    """Lint and format: ruff; what ships runs on Python 3.9: vermin."""
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("vermin", "--no-tips", "--target=3.9-", "--violations", str(SHIPPED_PYTHON))


@nox.session(default=False, allow_parallel=True)
def types(session: nox.Session) -> None:
    """Types: mypy, strict."""
    session.run("mypy", *PARTS, "tasks.py", "noxfile.py")
    session.run("mypy", "--python-version=3.11", str(SHIPPED_PYTHON))


@nox.session(default=False, allow_parallel=True)
def imports(session: nox.Session) -> None:
    """Directions between the parts: import-linter."""
    session.run("lint-imports", "--no-cache")


@nox.session(default=False, allow_parallel=True)
def unit(session: nox.Session) -> None:
    """Unit tests, the servers' effective settings (DoD 6, 7) among them: no root, no network."""
    session.run("pytest", "tests/unit", *session.posargs)


@nox.session(default=False, allow_parallel=True)
def shell(session: nox.Session) -> None:
    """Shell scripts (DoD 3 and 8): bash -n, shellcheck, shfmt."""
    files = _shell_files()
    for file in files:
        session.run("bash", "-n", file, external=True, silent=True)
    session.run("shellcheck", "--external-sources", *files)
    session.run("shfmt", "-i", "2", "-ci", "-d", *files)


@nox.session(default=False, allow_parallel=True)
def units(session: nox.Session) -> None:
    """systemd units (DoD 4): systemd-analyze verify on a staged root, any output is a failure."""
    session.run(sys.executable, "-m", "gate.units", external=True)


@nox.session(default=False, allow_parallel=True)
def workflows(session: nox.Session) -> None:
    """Workflows (DoD 5): yamllint, check-jsonschema."""
    files = [str(path) for path in sorted((ROOT / ".github" / "workflows").glob("*.yml"))]
    session.run("yamllint", "--strict", ".github")
    session.run("check-jsonschema", "--builtin-schema", "vendor.github-workflows", *files)


@nox.session(
    default=False,
    allow_parallel=True,
    requires=["python", "types", "imports", "unit", "shell", "units", "workflows", "packer", "go"],
)
def verify(session: nox.Session) -> None:
    """Everything a merge needs that neither root nor a machine is needed for."""
    session.log("the gate holds")


@nox.session(default=False, allow_parallel=True)
def packer(session: nox.Session) -> None:
    """The template (DoD 1): packer fmt, init and validate, as a fresh clone would."""
    session.run(sys.executable, "-m", "invoke", "validate", external=True)


@nox.session(default=False, allow_parallel=True)
def go(session: nox.Session) -> None:
    """The reference API: gofmt, go vet, staticcheck, its tests."""
    session.run(sys.executable, "-m", "toolchain.check_api", external=True)


@nox.session(default=False, requires=["verify"])
def machines(session: nox.Session) -> None:
    """Boot tests, one for each promise; needs root (arguments after -- go to pytest)."""
    session.run(sys.executable, "-m", "invoke", "doctor", "--install", external=True)
    session.run("pytest", "tests/machines", *session.posargs)


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """The long campaign of faults; needs root (arguments after -- go to pytest)."""
    session.run(sys.executable, "-m", "invoke", "doctor", "--install", external=True)
    session.run("pytest", "tests/faults", *session.posargs)
