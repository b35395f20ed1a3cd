"""What a gate run would leave out on this host is told, and no rehearsal needs it."""

from __future__ import annotations

from pathlib import Path

from tests.support import ROOT
from zmanim_ami.gate import doctor
from zmanim_ami.rehearsal import host


def test_what_a_gate_run_would_leave_out_is_told_and_needed_by_no_rehearsal(tmp_path: Path) -> None:
    lacking = [finding for finding in doctor.findings(ROOT, str(tmp_path)) if not finding.ok]
    assert {"systemd-analyze", "gcc"} <= {finding.name for finding in lacking}
    assert all(finding.fix and not finding.needed for finding in lacking)
    host.check(lacking)
