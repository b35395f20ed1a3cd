"""A cloud's server, in the process that lives as long as the cloud does."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from localcloud.settings import BaseImage, Cloud, CloudSettings, cloud_to_json, make_key, settings_to_json
from support.cache import is_held
from tests.support import ROOT

# Without namespaces and without moto: what it does for its cloud's sake before and after those.
_SERVES = """
import sys
from pathlib import Path
from types import SimpleNamespace
from localcloud import server
server.wire = lambda *_: None
server.importlib = SimpleNamespace(import_module=lambda _name: SimpleNamespace(serve=lambda *_: None))
server.main(Path(sys.argv[1]), None)
"""


@pytest.mark.incident("what a cloud runs on was anybody's to delete once the command that had started it was over")
def test_a_cloud_keeps_what_it_runs_on_from_being_taken_away_as_long_as_it_lives(tmp_path: Path) -> None:
    state, base, disk = (tmp_path / name for name in ("own", "standin-0123456789abcdef", "disk-0123456789abcdef"))
    for directory in (state, base / "root", disk):
        directory.mkdir(parents=True)
    images = (BaseImage("one", base / "root"), BaseImage("of no cache", tmp_path), BaseImage("other", disk, disk=disk))
    settings = CloudSettings(images=images, authority=tmp_path, name="own", state=tmp_path)
    (state / "settings.json").write_text(settings_to_json(settings))
    make_key(state)
    (state / "cloud.json").write_text(cloud_to_json(Cloud("own", "eu-west-1", state, 7)))
    process = subprocess.Popen([sys.executable, "-c", _SERVES, str(state)], cwd=ROOT)
    try:
        end = time.monotonic() + 120
        while not (state / "ready").exists():
            assert time.monotonic() < end
            time.sleep(0.02)
        assert is_held(base)
        assert is_held(disk)
    finally:
        process.kill()
        process.wait()
    assert not is_held(base)
    assert not is_held(disk)
