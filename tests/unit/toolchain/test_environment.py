"""What `eval` makes of the exports is exactly what the tools need."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.shell import evaluated
from zmanim_ami.toolchain.environment import Tools, environment, exports


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    home = tmp_path / "with space, $dollar and 'quote'"
    home.mkdir()
    packer = home / "packer"
    packer.write_text("#!/bin/sh\n")
    packer.chmod(0o755)
    return Tools(packer, home / "plugins", home / "config")


def test_a_shell_that_evaluates_the_exports_has_the_environment(tools: Tools) -> None:
    base = {"PATH": os.environ["PATH"], "PACKER_CONFIG": "/home/me/.packerconfig", "PACKER_PLUGIN_PATH": "/mine"}
    text = exports(tools, base)
    assert evaluated(text, base, "bash") == (0, environment(tools, base))
    assert "PACKER_CONFIG" not in environment(tools, base)


def test_the_pinned_packer_comes_before_any_other(tools: Tools, tmp_path: Path) -> None:
    other = tmp_path / "bin" / "packer"
    other.parent.mkdir()
    other.symlink_to(tools.packer)
    path = environment(tools, {"PATH": str(other.parent)})["PATH"]
    assert path.split(os.pathsep) == [str(tools.packer.parent), str(other.parent)]


def test_evaluating_twice_changes_nothing_more(tools: Tools) -> None:
    once = environment(tools, {"PATH": "/usr/bin"})
    assert environment(tools, once) == once
    assert exports(tools, once) == ""


def test_packer_asks_nobody_for_updates_and_reads_no_configuration_of_a_person(tools: Tools) -> None:
    variables = environment(tools, {})
    assert variables["CHECKPOINT_DISABLE"] == "1"
    assert variables["PACKER_CONFIG_DIR"] == str(tools.config_directory)
    assert variables["PACKER_PLUGIN_PATH"] == str(tools.plugin_directory)
