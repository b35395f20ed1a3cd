"""Programs that a test puts on PATH in the place of real ones: short shell scripts that say what they were given."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest


def on_path(directory: Path, monkeypatch: pytest.MonkeyPatch, programs: Mapping[str, str]) -> Path:
    """Put shell scripts (name: body) first on PATH and return `directory`, which they know as ${HERE}.

    Each writes its arguments to ${HERE}/NAME.arguments first, one a line, with a form feed after the last.
    """
    folder = directory / "bin"
    folder.mkdir(parents=True)
    for name, body in programs.items():
        path = folder / name
        arguments = f"{{ printf '%s\\n' \"$@\"; printf '\\f\\n'; }} >>\"${{HERE}}/{name}.arguments\""
        path.write_text(f"#!/bin/sh\nHERE='{directory}'\n{arguments}\n{body}\n")
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return directory


def arguments(directory: Path, name: str) -> list[list[str]]:
    """Return the arguments of each call of a program, in their order; none when it was never called."""
    path = directory / f"{name}.arguments"
    if not path.exists():
        return []
    return [call.split("\n") for call in path.read_text().removesuffix("\n\f\n").split("\n\f\n")]


# ---- systemd-run and systemctl: what they start runs at once, as ourselves, and is ended by its unit's name ----

# Runs what comes after --, and writes down which process has which unit and how it is to be ended.
_SYSTEMD_RUN = """
unit= signal=TERM
while [ "$1" != -- ]; do
  case $1 in
  --unit=*) unit=${1#--unit=} ;;
  --property=KillSignal=SIG*) signal=${1#--property=KillSignal=SIG} ;;
  esac
  shift
done
shift
test -z "$unit" || echo "$$ $signal" >"${HERE}/$unit.pid"
exec "$@"
"""
_SYSTEMCTL = """
case $1 in
stop)
  for unit; do
    test -e "${HERE}/$unit.pid" || continue
    read -r process signal <"${HERE}/$unit.pid"
    kill -s "$signal" "$process"
  done
  ;;
show) echo "ControlGroup=$(cat "${HERE}/group" 2>/dev/null)" ;;
esac
"""
SANDBOX = {"systemd-run": _SYSTEMD_RUN, "systemctl": _SYSTEMCTL}
