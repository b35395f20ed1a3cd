"""localcloud by itself, as its README tells somebody who has nothing: its lines, typed one after the other."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import control
from tests.support import ROOT
from tests.support.machines.host_state import difference, host_state
from zmanim_ami.rehearsal import owner

PAGE = (ROOT / "localcloud/README.md").read_text("utf-8")


@pytest.fixture
def name() -> Iterator[str]:
    name = owner.this_process().name("alone")
    directory = Path("/var/lib/localcloud", name)
    before = host_state(directory)
    yield name
    control.down(name)
    assert difference(before, directory) == {}


def typed(directory: Path, name: str) -> str:
    """Return the page's block with what is this host's, and a cloud of the test's own in the place of a person's."""
    (block,) = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    changes = {
        r"^\./inv --list .*$": "",  # it makes the environment that this test runs in
        r"\.venv/bin/python -m localcloud (\w+)": rf"{sys.executable} -m localcloud \1 --name {name}",
        r"(^|\()aws ": r"\1aws_cli ",
        r"\bme\.pem\b": str(directory / "me.pem"),
        "accept-new": "no -o UserKnownHostsFile=/dev/null",
    }
    if platform.machine() == "aarch64":
        changes["t3.micro"] = "t4g.micro"
    for pattern, replacement in changes.items():
        assert re.search(pattern, block, re.MULTILINE), pattern
        block = re.sub(pattern, replacement, block, flags=re.MULTILINE)
    # The AWS CLI's tree is where it is cached for everybody.
    return f'aws_cli() {{ (unset XDG_CACHE_HOME; {sys.executable} -m tests.support.tasks.aws_cli "$@"); }}\n{block}'


def test_ten_lines_lead_from_nothing_to_an_instance_that_one_is_logged_in_to(tmp_path: Path, name: str) -> None:
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", typed(tmp_path, name)],
        cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"ip-10-213-\d+-\d+", done.stdout.split()[-1])
