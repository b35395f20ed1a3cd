"""What the go.mod files below tools/ pin is what the project says it uses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.errors import raises
from zmanim_ami.toolchain.pins import pin, pins, versions

GO_MOD = """module example/tools/thing

go 1.25.8

tool example.com/thing/cmd/thing

require (
\texample.com/other v1.0.0 // indirect
\texample.com/thing v0.9.0 // indirect
\texample.com/thing/cmd v2.3.4 // indirect
\texample.com/thin v7.7.7 // indirect
)
"""


def module(directory: Path, text: str) -> Path:
    (directory / "thing").mkdir()
    (directory / "thing" / "go.mod").write_text(text)
    return directory


def test_every_tool_has_one_version_and_its_checksums() -> None:
    assert set(versions()) == {"act", "govulncheck", "packer", "packer-plugin-amazon", "restic", "staticcheck"}
    for each in pins():
        assert re.fullmatch(r"\d+\.\d+\.\d+", each.version), each
        assert f" v{each.version} h1:" in (each.directory / "go.sum").read_text(), each


def test_the_version_is_that_of_the_module_that_holds_the_tool(tmp_path: Path) -> None:
    pinned = pin("thing", module(tmp_path, GO_MOD))
    assert (pinned.package, pinned.version, pinned.go) == ("example.com/thing/cmd/thing", "2.3.4", "1.25.8")


@pytest.mark.parametrize(
    "text",
    [
        GO_MOD.replace("tool example.com/thing/cmd/thing", ""),
        GO_MOD.replace("example.com/thing", "example.com/nothing", 1),
        GO_MOD.replace("go 1.25.8", ""),
    ],
)
def test_a_module_that_pins_nothing_is_refused(tmp_path: Path, text: str) -> None:
    with raises("pin-unreadable"):
        pin("thing", module(tmp_path, text))


def test_a_missing_module_is_refused(tmp_path: Path) -> None:
    with raises("pin-unreadable", match="thing"):
        pin("thing", tmp_path)
