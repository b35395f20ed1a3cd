"""What a gate run would leave out on this host is told, and no rehearsal needs it."""

from __future__ import annotations

import platform
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from zmanim_ami.gate import __main__ as gate
from zmanim_ami.gate import doctor
from zmanim_ami.gate.checks import CHECKS
from zmanim_ami.rehearsal import host


def test_what_a_gate_run_would_leave_out_is_told_and_needed_by_no_rehearsal(tmp_path: Path) -> None:
    lacking = [requirement for requirement in doctor.requirements(ROOT, str(tmp_path)) if not requirement.ok]
    assert {"systemd-analyze", "gcc"} <= {requirement.name for requirement in lacking}
    assert all(requirement.fix and not requirement.needed for requirement in lacking)
    host.check(lacking)


def test_shellcheck_is_asked_of_hosts_that_it_has_no_wheel_for_and_doctor_installs_it_there(tmp_path: Path) -> None:
    assert doctor.missing_packages(ROOT, str(tmp_path), "x86_64") == []
    assert doctor.missing_packages(ROOT, str(tmp_path), "aarch64") == ["shellcheck"]
    (tmp_path / "shellcheck").touch(mode=0o755)
    assert doctor.missing_packages(ROOT, str(tmp_path), "aarch64") == []


def test_a_browser_is_asked_for_only_where_it_is_wanted_and_any_of_its_names_will_do(tmp_path: Path) -> None:
    assert "chromium" not in {each.name for each in doctor.requirements(ROOT, str(tmp_path))}
    assert doctor.missing_packages(ROOT, str(tmp_path), "x86_64") == []
    assert doctor.missing_packages(ROOT, str(tmp_path), "x86_64", browser=True) == ["chromium"]
    (tmp_path / "google-chrome").touch(mode=0o755)
    assert doctor.missing_packages(ROOT, str(tmp_path), "x86_64", browser=True) == []


def test_without_shellcheck_the_check_says_how_to_get_it_and_does_not_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tree, path = tmp_path / "tree", tmp_path / "bin"
    path.mkdir()
    for name in ("bash", "git"):
        (path / name).symlink_to(shutil.which(name) or "")
    subprocess.run(["git", "init", "--quiet", str(tree)], check=True)
    (tree / "any.sh").write_text("#!/bin/bash\n")
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    monkeypatch.setenv("PATH", str(path))
    assert gate.run_check(CHECKS["shell"], tree, None) == 3
    assert "no shellcheck on this host" in (words := capsys.readouterr().out)
    assert "apt-get install shellcheck" in words
