"""What tests of several places share."""

import json
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_PINS = json.loads((ROOT / "infrastructure/packer/versions.json").read_text())
# PostgreSQL's major, as the versions file has it.
POSTGRESQL: str = _PINS["servers"]["postgresql"]["major"]
