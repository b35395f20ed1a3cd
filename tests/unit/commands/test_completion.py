"""Bash completes tasks and flags, once it has read the file that docs/tasks.md names."""

from __future__ import annotations

import re
import subprocess

import pytest

from tests.support import ROOT

(LINE,) = re.findall(r"`(source \S+)`", (ROOT / "docs/tasks.md").read_text("utf-8"))


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("./inv image.ro", ["image.rollback"]),
        (f"{ROOT}/inv rehearse --bad", ["--bad-day"]),
        ("./inv rehearse --version v1 --machin", ["--machines"]),
    ],
)
def test_bash_completes_what_is_typed(typed: str, offered: list[str]) -> None:
    words = typed.split()
    script = f"""{LINE}
complete -p inv >/dev/null
COMP_WORDS=({typed})
_complete_inv {words[0]} {words[-1]} {words[-2]}
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(["bash", "-euc", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.split(), done.returncode) == (offered, 0), done.stderr
