"""What a shell makes of text that one of our tasks prints for `eval`."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping

_SHELLS_OWN = {"PWD", "_", "SHLVL", "OLDPWD"}


def evaluated(text: str, base: Mapping[str, str], shell: str = "/bin/sh") -> tuple[int, dict[str, str]]:
    """Evaluate text in a shell with `base` as its environment; return the eval's exit code and its environment then."""
    script = 'eval "$1"; code=$?; env -0; exit $code'
    ran = subprocess.run([shell, "-c", script, shell, text], env=dict(base), capture_output=True, check=False)
    pairs = (line.split("=", 1) for line in ran.stdout.decode().split("\0") if "=" in line)
    return ran.returncode, {name: value for name, value in pairs if name not in _SHELLS_OWN}
