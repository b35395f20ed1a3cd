"""What the gate asks of this host and no rehearsal needs, for `inv doctor`."""

from __future__ import annotations

import platform
import shutil
from pathlib import Path

from support.errors import HostLacks
from support.host import Requirement, search_path
from zmanim_ami.gate.image import configuration, shell
from zmanim_ami.pipeline.pins import versions

SHELLCHECK = ("shellcheck", "shellcheck", "gate: every script, by shellcheck")
# Ubuntu's chromium is a snap; GitHub's runners have Google's. Whichever is first is taken.
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = (BROWSERS[0], "chromium", "the session report: the evidence page as a browser shows it")
# Program, Debian packages, what the gate asks it for.
PROGRAMS = (
    ("systemd-analyze", "systemd", "gate: the units by systemd's own word"),
    ("gcc", "gcc libc6-dev", "gate: the API's tests under the race detector"),
    ("bash", "bash", "gate: every script is parsed"),
)
# What comes of it where one of these is missing.
_WITHOUT = {SHELLCHECK[0]: "a gate run fails", BROWSER[0]: "the session fails"}


def requirements(root: Path, path: str | None = None, machine: str = "", *, browser: bool = False) -> list[Requirement]:
    """Return what the gate of the clone at `root` finds on `path`, as in PATH, and what not; `machine` is uname's word.

    Without it `nox -s verify` looks at less, and says so (in CI it fails); without shellcheck it fails. A `browser` is
    looked for only where it is wanted, as it brings more than all the rest.
    """
    needs_shellcheck = (machine or platform.machine()) != shell.WHEEL_OF_SHELLCHECK
    wanted = (*PROGRAMS, *([SHELLCHECK] if needs_shellcheck else []), *([BROWSER] if browser else []))
    looked_for = []
    for name, packages, purpose in wanted:
        names = BROWSERS if name == BROWSER[0] else (name,)
        program = next(filter(None, (shutil.which(each, path=path or search_path()) for each in names)), None)
        fix = "" if program else f"apt-get install {packages}"
        found = program or f"missing: {_WITHOUT.get(name, 'a gate run leaves that out')}"
        looked_for.append(Requirement(name, purpose, not fix, found, fix, False, packages))
    major = versions.read(root)["servers"]["postgresql"]["major"]
    purpose = "gate: postgresql.conf by its own reader"
    try:
        text, fix = configuration.postgresql(major), ""
    except HostLacks as lacks:
        text, fix = "missing: the gate reads postgresql.conf alone", lacks.fix
    return [*looked_for, Requirement(f"PostgreSQL {major}", purpose, not fix, text, fix, False)]


def missing_packages(root: Path, path: str | None = None, machine: str = "", *, browser: bool = False) -> list[str]:
    """Return the Debian packages without which a gate run fails: what it only leaves out is nobody's to install."""
    lacking = [each for each in requirements(root, path, machine, browser=browser) if not each.ok]
    return [each.package for each in lacking if each.name in _WITHOUT]
