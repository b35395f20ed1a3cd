"""What this host lacks is told with its purpose and its fix, and nothing is installed unasked."""

from __future__ import annotations

import platform
from pathlib import Path

import pytest

from tests.support.errors import raises
from zmanim_ami.rehearsal import host


def test_a_host_without_the_programs_is_told_their_debian_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_path", lambda: str(tmp_path))
    monkeypatch.setattr(host, "KEYRING", tmp_path / "no-keyring")
    missing = host.missing_packages()
    assert "systemd-container" in missing
    assert "debian-archive-keyring" in missing
    assert ("qemu-user-static" in missing) == (platform.machine() != "aarch64")


def test_too_little_disk_is_said_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(host, "NEEDED_BYTES_COLD", 1 << 60)
    lacking = [finding for finding in host.findings(tmp_path) if not finding.ok and finding.name.startswith("disk")]
    assert [finding.name for finding in lacking] == ["disk for the cache", "disk for the clouds"]
    assert "GiB free" in lacking[0].found
    assert "XDG_CACHE_HOME" in lacking[0].fix


def test_whoever_is_not_root_is_told_so_before_anything_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(host, "install_missing", lambda: pytest.fail("it installed something"))
    with raises("not-root") as caught:
        host.require(tmp_path, install=True, confirm=False)
    assert caught.value.exit_code == 3
    assert "uid 1000" in str(caught.value)


def test_a_lack_names_what_it_is_for_what_was_found_and_the_fix() -> None:
    finding = host.Finding("mmdebstrap", "makes the base image", False, "not there", "apt-get install mmdebstrap")
    fault = host.incomplete([finding, host.Finding("git", "the commit", True, "/usr/bin/git", "")])
    assert fault.exit_code == 3
    assert "makes the base image" in str(fault)
    assert "apt-get install mmdebstrap" in str(fault)
    assert "git" not in str(fault)


def test_a_host_that_has_everything_needs_no_fix(tmp_path: Path) -> None:
    assert [finding for finding in host.findings(tmp_path) if finding.ok and finding.fix] == []


def test_what_a_gate_run_would_leave_out_is_told_and_needed_by_no_rehearsal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host, "_path", lambda: str(tmp_path))
    lacking = [finding for finding in host.gate_findings() if not finding.ok]
    assert {"systemd-analyze", "gcc"} <= {finding.name for finding in lacking}
    assert all(finding.fix and not finding.needed for finding in lacking)
    assert "systemd-analyze" not in str(host.incomplete(lacking))
