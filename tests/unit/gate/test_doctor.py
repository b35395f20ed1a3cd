"""What a gate run would leave out on this host is told, and no rehearsal needs it."""

from __future__ import annotations

from pathlib import Path

from tests.support import ROOT
from zmanim_ami.gate import doctor
from zmanim_ami.rehearsal import host


def test_what_a_gate_run_would_leave_out_is_told_and_needed_by_no_rehearsal(tmp_path: Path) -> None:
    lacking = [requirement for requirement in doctor.requirements(ROOT, str(tmp_path)) if not requirement.ok]
    assert {"systemd-analyze", "gcc"} <= {requirement.name for requirement in lacking}
    assert all(requirement.fix and not requirement.needed for requirement in lacking)
    host.check(lacking)
