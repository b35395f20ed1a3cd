"""The tests, by name. `./nox` runs what a merge needs; `./nox --list` shows the rest.

Every session runs in the project's one .venv (made by ./nox from requirements.txt), so installing happens once.
Sessions of the gate run side by side by Nox's own means; `-- --changed` leaves out what a change can't affect.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

import nox

ROOT = Path(__file__).parent
if Path(sys.prefix) != ROOT / ".venv":
    # A Nox from elsewhere has none of the tools: hand over to the one that has them, with the same arguments.
    os.execv(ROOT / "nox", [str(ROOT / "nox"), *sys.argv[1:]])

sys.path.insert(0, str(ROOT))
from zmanim_ami.gate.changed import changed_files  # noqa: E402 - only now it can be found
from zmanim_ami.gate.checks import CHECKS, Check  # noqa: E402

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["verify", "gate-proof", "machines"]
nox.options.parallel = os.cpu_count() or 1
nox.options.stop_on_first_error = False
# Where long sessions say how far they are: Nox itself shows a session's words when it has ended. Set once, by the Nox
# that a person has started; those it starts for its sessions inherit it.
os.environ.setdefault("NOX_PROGRESS", f"/proc/{os.getpid()}/fd/2")


def _session(check: Check) -> None:
    def body(session: nox.Session) -> None:
        session.run(sys.executable, "-m", "zmanim_ami.gate", check.name, *session.posargs, external=True)

    body.__doc__ = f"{check.title[0].upper()}{check.title[1:]}."
    nox.session(name=check.name, default=False, allow_parallel=True)(body)


for each in CHECKS.values():
    _session(each)


def _tests(directory: str, arguments: Sequence[str]) -> list[str]:
    """Return pytest's arguments: all tests of `directory`, unless `arguments` name some of them."""
    named = any(Path(each.partition("::")[0]).exists() for each in arguments if not each.startswith("-"))
    return [*arguments] if named else [directory, *arguments]


def _affected() -> list[str]:
    """Return the checks that `verify` needs: all, or with --changed those that a change against main can affect."""
    if "--changed" not in sys.argv:
        return list(CHECKS)
    changed = changed_files(ROOT)
    return [check.name for check in CHECKS.values() if check.is_affected_by(changed)]


@nox.session(default=False, allow_parallel=True, requires=_affected())
def verify(session: nox.Session) -> None:
    """Everything a merge needs without root and machines (-- --changed: only what a change against main can affect)."""
    session.log(f"the gate holds: {len(_affected())} of {len(CHECKS)} checks")


@nox.session(name="gate-proof", default=False)
def gate_proof(session: nox.Session) -> None:
    """The test of the tests: each seeded defect is caught by the check that is there for it."""
    session.run("pytest", "-n", str(os.cpu_count() or 1), *_tests("tests/gate", session.posargs))


@nox.session(default=False, venv_backend="venv")
def mutation(session: nox.Session) -> None:
    """How many mutants of the rules about publishing, retention and volumes the unit tests kill; takes long."""
    options = ("--require-hashes", "--no-deps", "--only-binary", ":all:")
    session.install(*options, "--requirement", "requirements-mutation.txt")
    session.run("python", "-m", "tests.mutation", *session.posargs)


@nox.session(default=False, requires=["verify"])
def machines(session: nox.Session) -> None:
    """Boot tests, one for each promise; needs root (arguments after -- go to pytest)."""
    session.run(sys.executable, "-m", "invoke", "doctor", "--install", external=True)
    session.run("pytest", *_tests("tests/machines", session.posargs))


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """The long campaign of faults; needs root (arguments after -- go to pytest)."""
    session.run(sys.executable, "-m", "invoke", "doctor", "--install", external=True)
    session.run("pytest", *_tests("tests/faults", session.posargs))
