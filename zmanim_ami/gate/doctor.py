"""What the gate asks of this host and no rehearsal needs, for `inv doctor`."""

from __future__ import annotations

import shutil
from pathlib import Path

from support.errors import HostLacks
from support.host import Requirement, search_path
from zmanim_ami.gate.image import configuration
from zmanim_ami.pipeline.pins import versions

# Program, Debian packages, what the gate asks it for.
PROGRAMS = (
    ("systemd-analyze", "systemd", "gate: the units by systemd's own word"),
    ("gcc", "gcc libc6-dev", "gate: the API's tests under the race detector"),
    ("bash", "bash", "gate: every script is parsed"),
)


def requirements(root: Path, path: str | None = None) -> list[Requirement]:
    """Return what the gate of the clone at `root` finds on `path`, as in PATH, and what not.

    Without it `nox -s verify` looks at less, and says so (in CI it fails).
    """
    looked_for = []
    for name, packages, purpose in PROGRAMS:
        program = shutil.which(name, path=path or search_path())
        fix = "" if program else f"apt-get install {packages}"
        looked_for.append(
            Requirement(name, purpose, not fix, program or "missing: a gate run leaves that out", fix, False)
        )
    major = versions.read(root)["servers"]["postgresql"]["major"]
    purpose = "gate: postgresql.conf by its own reader"
    try:
        text, fix = configuration.postgresql(major), ""
    except HostLacks as lacks:
        text, fix = "missing: the gate reads postgresql.conf alone", lacks.fix
    return [*looked_for, Requirement(f"PostgreSQL {major}", purpose, not fix, text, fix, False)]
