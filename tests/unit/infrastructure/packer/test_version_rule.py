"""One rule of what a version is, in three places that can't read each other's: the tasks, Packer and the instance."""

from __future__ import annotations

import re

import hcl2
import pytest

from support.errors import BadInput
from tests.support import ROOT
from zmanim_ami.pipeline.version import parse
from zmanim_host.release.pointer import is_release

RELEASES = (
    "v0.0.0",
    "v1.2.3",
    "v10.20.30",
    "v20261130.0.0",
    "v1.2.3-rc.1",
    "v1.2.3-rc.10",
    f"v1.2.3-rc.{10**20}",
    "v1.2." + "3" * 59,
)
TEST_IMAGES = ("test-x", "test-local", "test-1.2-a", "test-a..b", "test-" + "x" * 59)
NONE = (
    *("", "latest", "1.2.3", "V1.2.3", "v1", "v1.2", "v1.2.3.4", "v01.2.3", "v1.02.3", "v1.2.03"),
    *("v1.2.3-rc.0", "v1.2.3-rc.01", "v1.2.3-rc", "v1.2.3-rc1", "v1.2.3-beta.1", "v1.2.3+build", "v1.2.3-ami"),
    *("v1.2.3\n", " v1.2.3", "v1.2.3 ", "v١.2.3", "v1.2." + "3" * 60),
    *("test", "test-", "test--x", "test-.x", "test-x-", "test-x.", "test-X", "test-x_y", "test-é", "test-x\n"),
    "test-" + "x" * 60,
)


def _template_takes(text: str) -> bool:
    """Decide as variables.pkr.hcl does; what Go's RE2 and Python's re understand otherwise is not in its pattern."""
    variables = hcl2.loads((ROOT / "infrastructure/packer/variables.pkr.hcl").read_text())["variable"]
    (version,) = (block['"version"'] for block in variables if '"version"' in block)
    condition = re.fullmatch(
        r'\$\{length\(var\.version\) <= (\d+) && can\(regex\("\^(.+)\$", var\.version\)\)\}',
        version["validation"][0]["condition"],
    )
    assert condition, version
    return len(text) <= int(condition[1]) and bool(re.fullmatch(condition[2].replace("\\\\", "\\"), text))


def _task_takes(text: str) -> str:
    try:
        return "test image" if parse(text).test_image else "release"
    except BadInput:
        return ""


@pytest.mark.incident("-rc.0 passed Packer's rule alone, and a seventh digit every rule but the instance's")
@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (text, kind)
        for kind, texts in {"release": RELEASES, "test image": TEST_IMAGES, "": NONE}.items()
        for text in texts
    ],
)
def test_tasks_template_and_instance_take_the_same_versions(text: str, kind: str) -> None:
    assert _task_takes(text) == kind
    assert _template_takes(text) == bool(kind)
    assert is_release(text) == (kind == "release")
