"""What a builder's own services write after cleanup.sh, to the image: they are found, stopped, and looked for again."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.support import ROOT
from tests.support.programs import arguments, on_path

SCRIPTS = ROOT / "infrastructure/packer/scripts"
# The base's timers and what they start; what has a last word when the builder stops.
RUNNING = [
    "sysstat-collect.timer",
    "sysstat-collect.service",
    "systemd-random-seed.service",
    "serial-getty@ttyS0.service",
]
SYSTEMCTL = f"""case $1 in
show) printf 'sysstat-collect.service\\n\\ndnf-makecache.service update-motd.service\\n' ;;
list-units)
  for unit in {" ".join(RUNNING)}; do echo "$unit loaded active running Something"; done ;;
is-active) exit 3 ;;
esac"""


def run(directory: Path, words: str) -> list[str]:
    """Run words where the functions of cleanup.sh are, without its main, and return the lines."""
    for name in ("lib.sh", "cleanup.sh"):
        (directory / name).write_text((SCRIPTS / name).read_text().replace('main "$@"\n', ""))
    environment = {"STAGING": "/nowhere", "PATH": os.environ["PATH"]}
    command = ["bash", "-c", f"source {directory}/cleanup.sh; {words}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.incident("sysstat wrote to /var/log between cleanup and validate, and random-seed after both")
def test_what_would_still_write_is_stopped_with_what_its_timers_have_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_path(tmp_path, monkeypatch, {"systemctl": SYSTEMCTL, "journalctl": ""})
    run(tmp_path, "stop_writers")
    _, listed, stopped, *_ = arguments(here, "systemctl")
    asked = {"*.timer", "update-motd.service", "systemd-random-seed*", "systemd-update-utmp*", "*getty@*"}
    assert asked | {"chronyd.service"} < set(listed)
    assert stopped == ["stop", "amazon-ssm-agent.service", *RUNNING]
    # And validate.sh names each that still runs.
    assert run(tmp_path, "last_writers") == RUNNING
