"""What may be a migration: the machine's own rule, asked before anything is built or published.

The rule is infrastructure/packer/files/zmanim_host/release/migration_files.py. In a process of its own, as zmanim_host
is no package of this environment: it is what ships, and its folder on everybody's sys.path would hide that.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from support import process
from support.errors import BadInput
from zmanim_ami.pipeline.shipped import install

_FILES = Path(__file__).resolve().parents[3] / install.FILES
_PROGRAM = (
    "import json, pathlib, sys\n"
    "from zmanim_host.host import HostError\n"
    "from zmanim_host.release import migration_files\n"
    "files = {path.name: path.read_bytes() for path in map(pathlib.Path, json.load(sys.stdin))}\n"
    "try: migration_files.check(files)\n"
    "except HostError as error: print(error)"
)


def check(paths: Sequence[Path]) -> None:
    """See that a machine can apply each file: as one transaction, in one direction. Raises `migration-unfit`."""
    names = json.dumps([str(path) for path in paths])
    command = [sys.executable, "-B", "-c", _PROGRAM]
    found = process.run(command, input=names, env={"PYTHONPATH": str(_FILES)}).stdout.strip()
    if found:
        raise BadInput(
            "a migration is not what a machine can apply",
            code="migration-unfit",
            expected="SQL that runs as one transaction, and leads in one direction",
            found=found,
            fix='docs/releases.md, "Migrations: expand, then contract"',
        )
