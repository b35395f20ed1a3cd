"""What this host lacks is told with its purpose and its fix, and nothing is installed unasked."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from support.host import Requirement
from tests.support.errors import raises
from tests.support.programs import arguments, on_path
from zmanim_ami.rehearsal import host
from zmanim_ami.rehearsal.host import Host


def test_a_host_without_the_programs_is_told_their_debian_packages(tmp_path: Path) -> None:
    missing = Host(tmp_path, path=str(tmp_path), keyring=tmp_path / "no-keyring").missing_packages()
    assert "systemd-container" in missing
    assert "debian-archive-keyring" in missing
    assert ("qemu-user-static" in missing) == (platform.machine() != "aarch64")


def test_too_little_disk_is_said_before_anything_is_built(tmp_path: Path) -> None:
    lacking = [
        requirement
        for requirement in Host(tmp_path, cache=tmp_path, needed_cold=1 << 60).requirements()
        if not requirement.ok
    ]
    disks = [requirement for requirement in lacking if requirement.name.startswith("disk")]
    assert [requirement.name for requirement in disks] == ["disk for the cache", "disk for the clouds"]
    assert "GiB free" in disks[0].found
    assert "XDG_CACHE_HOME" in disks[0].fix


def test_whoever_is_not_root_is_told_so_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path, monkeypatch, {"apt-get": "exit 0"})
    with raises("not-root") as caught:
        Host(tmp_path, uid=1000, keyring=tmp_path / "no-keyring").require(install=True, confirm=False)
    assert caught.value.exit_code == 3
    assert "uid 1000" in str(caught.value)
    assert arguments(tmp_path, "apt-get") == []


def test_a_lack_names_what_it_is_for_what_was_found_and_the_fix() -> None:
    requirement = Requirement("mmdebstrap", "makes the base image", False, "missing", "apt-get install mmdebstrap")
    with raises("host-incomplete") as caught:
        host.check([requirement, Requirement("git", "the commit", True, "/usr/bin/git", "")])
    error = caught.value
    assert error.exit_code == 3
    assert "makes the base image" in str(error)
    assert "apt-get install mmdebstrap" in str(error)
    assert "git" not in str(error)


def test_a_host_that_has_everything_needs_no_fix(tmp_path: Path) -> None:
    assert [requirement for requirement in Host(tmp_path).requirements() if requirement.ok and requirement.fix] == []
