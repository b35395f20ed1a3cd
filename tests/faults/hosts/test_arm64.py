"""A fresh clone on an ARM64 Debian 13, its programs emulated: as far as an environment, and what the host lacks."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.machines.roots import HostRoot, make


@pytest.fixture(scope="module")
def host() -> Iterator[HostRoot]:
    with tempfile.TemporaryDirectory(prefix="host-", dir="/var/tmp", ignore_cleanup_errors=True) as directory:
        programs = ("bash", "coreutils", "grep", "python3", "python3-venv", "sed", "util-linux")
        yield make(Path(directory, "root"), *programs, architecture="arm64")


@pytest.mark.incident("on ARM64 no task could run: a tool of the gate has no wheel there")
def test_tasks_have_their_environment_there_and_say_what_is_missing(host: HostRoot) -> None:
    assert host.run("uname", "-m").stdout == "aarch64\n"
    # Compiling what is installed takes the emulator longer than all the rest.
    doctor = host.run("./inv", "doctor", "--json", PIP_NO_COMPILE="1")
    assert doctor.returncode == 3, doctor.stderr
    assert "making .venv from requirements.txt" in doctor.stderr
    assert "host-incomplete" in doctor.stderr
    assert host.run(".venv/bin/python", "--version").stdout.startswith("Python 3.13.")
    # Programs for its own processor it runs by itself; shellcheck is Debian's there.
    assert "qemu-aarch64-static" not in doctor.stdout
    assert "apt-get install shellcheck" in doctor.stdout

    again = host.run("./inv", "resolve-packages")
    assert again.returncode == 3
    assert "making .venv" not in again.stderr
    assert "not-amazon-linux" in again.stderr
