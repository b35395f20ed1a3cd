"""A bump leaves no page behind that lists the old pins."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.support import ROOT
from tests.support.pins import Known, run
from zmanim_ami.pipeline.docs import page
from zmanim_ami.pipeline.pins.locks import LOCKS


def test_the_page_that_lists_the_pins_is_written_anew(tmp_path: Path) -> None:
    for name in ("infrastructure/packer", "docs", "tools"):
        shutil.copytree(ROOT / name, tmp_path / name)
    for name in LOCKS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    page.write(tmp_path)
    run(Known(tmp_path, tagged={"redis": ["7.2.9999"]}), write=page.write)
    assert "| `redis` | 7.2.9999 |" in (tmp_path / "docs/ami-contents.md").read_text()
