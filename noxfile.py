"""The tests, by name: `./nox` runs what a merge needs (verify, gate-proof, machines), `./nox --list` shows the rest.

Every session runs in the project's one .venv (made by ./nox from requirements-gate.txt), so installing happens once.
What a session gets after `--` goes to the gate or to pytest.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import nox

sys.path.insert(0, str(Path(__file__).parent))
from zmanim_ami.gate.checks import CHECKS, Check

ROOT = Path(__file__).parent

nox.needs_version = ">=2026.10"
nox.options.default_venv_backend = "none"
nox.options.sessions = ["verify", "gate-proof", "machines"]
# No machine boots for a tree that the gate refuses. Not by requires=: `verify` would get what is named after --.
nox.options.stop_on_first_error = True


@nox.session(default=False)
def verify(session: nox.Session) -> None:
    """Everything a merge needs without root and machines: all checks (-- --changed: those a change can affect)."""
    _python(session, "zmanim_ami.gate", *session.posargs)


def _session(check: Check) -> None:
    def body(session: nox.Session) -> None:
        _python(session, "zmanim_ami.gate", check.name, *session.posargs)

    body.__doc__ = check.title
    nox.session(name=check.name, default=False)(body)


for each in CHECKS.values():
    _session(each)


@nox.session(name="gate-proof", default=False)
def gate_proof(session: nox.Session) -> None:
    """The test of the tests: each seeded defect is caught by the check that is there for it."""
    _pytest(session, "tests/gate", "-n", str(os.cpu_count()))


@nox.session(default=False)
def machines(session: nox.Session) -> None:
    """Boot tests, one for each promise; needs root."""
    _python(session, "invoke", "doctor", "--install")
    # Two files at a time, each beside a cloud of its own: most of a boot or a backup keeps one processor.
    _pytest(session, "tests/machines", "-n", "2", "--dist", "loadfile")


@nox.session(default=False)
def faults(session: nox.Session) -> None:
    """The long campaign of faults, nightly; needs root."""
    _python(session, "invoke", "doctor", "--install", "--machines", "qemu")
    _pytest(session, "tests/faults")


@nox.session(default=False)
def kernel(session: nox.Session) -> None:
    """Machines with a kernel of their own, by QEMU; needs root."""
    _python(session, "invoke", "doctor", "--install", "--machines", "qemu")
    _pytest(session, "tests/kernel")


@nox.session(default=False, venv_backend="venv", reuse_venv=True)
def clients(session: nox.Session) -> None:
    """Clients that others have written: Ansible's amazon.aws in a cloud, moto's own tests; nightly; needs root."""
    _install(session, "requirements-clients.txt")
    session.env["CLIENTS_BIN"] = str(session.bin)
    _pytest(session, "tests/clients")


@nox.session(default=False, venv_backend="venv", reuse_venv=True)
def report(session: nox.Session) -> None:
    """The evidence page in a browser: widths, light and dark, keyboard, axe; its pictures are left in build/report."""
    _python(session, "invoke", "doctor", "--install", "--browser")
    _install(session, "requirements-report.txt")
    named = any(Path(each.partition("::")[0]).exists() for each in session.posargs if not each.startswith("-"))
    session.run("python", "-m", "pytest", "-v", *session.posargs, *([] if named else ["tests/report"]))


@nox.session(default=False, venv_backend="venv")
def mutation(session: nox.Session) -> None:
    """How many mutants of the rules about publishing, retention and volumes the unit tests kill; takes long."""
    _install(session, "requirements-mutation.txt")
    session.run("python", "-m", "tests.mutation", *session.posargs)


def _install(session: nox.Session, lock: str) -> None:
    """Install a lock into the session's own environment."""
    session.install("--require-hashes", "--no-deps", "--only-binary", ":all:", "--requirement", lock)


def _python(session: nox.Session, *arguments: str) -> None:
    """Run a module by the project's own Python, which ./nox makes first where Nox is one from elsewhere."""
    python = sys.executable
    if Path(sys.prefix).parent != ROOT.resolve() / ".venvs":
        session.run(str(ROOT / "nox"), "--version", silent=True, external=True)
        python = str(ROOT / ".venv/bin/python")
    # What is interrupted cleans up: clouds, machines, images.
    session.run(python, "-m", *arguments, external=True, interrupt_timeout=60)


def _pytest(session: nox.Session, directory: str, *options: str) -> None:
    """Run the tests of `directory`, or those that the person names, with a line and the seconds for each.

    What they have seen of faults is kept.
    """
    named = any(Path(each.partition("::")[0]).exists() for each in session.posargs if not each.startswith("-"))
    # Not in a conftest.py: then unit tests, which the gate runs by what they read, would read what these read, too.
    plugins = ("-p", "tests.support.sessions.progress", "-p", "tests.support.faults.results")
    _python(session, "pytest", "-v", *plugins, *options, *session.posargs, *([] if named else [directory]))
