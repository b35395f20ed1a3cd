"""What the versions file says of the servers. Apart, so that only who asks for it depends on that file."""

import json

from tests.support import ROOT

_PINS = json.loads((ROOT / "infrastructure/packer/versions.json").read_text())
# PostgreSQL's major.
POSTGRESQL: str = _PINS["servers"]["postgresql"]["major"]
