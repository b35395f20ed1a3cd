"""The host is after `down` what it was before `up`, whatever was killed while a machine in QEMU booted."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest

from localcloud import control
from localcloud.settings import CloudSettings
from tests.machines.localcloud.test_cleanup import kill
from tests.support.machines.host_state import difference, host_state
from tests.support.machines.lab import Lab, wait_for

DISK = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}


@pytest.fixture
def settings(own_kernel: CloudSettings) -> Iterator[CloudSettings]:
    """A cloud of its own, and the promise that nothing of it stays."""
    settings = dataclasses.replace(own_kernel, name="victim", state=own_kernel.state.parent / "victims")
    before = host_state(settings.directory)
    yield settings
    control.down(settings.name, settings.state)
    assert difference(before, settings.directory) == {}
    assert not settings.state.exists()


@pytest.mark.parametrize("victim", ["nothing", "python", "write_cache.py", "qemu-system-", "unshare"])
def test_a_kill_while_a_machine_boots_and_then_down_leave_nothing(settings: CloudSettings, victim: str) -> None:
    lab = Lab(control.up(settings), settings.images[0].root, settings.state, patience=60)
    machine = lab.launch(BlockDeviceMappings=[DISK])
    wait_for(lambda: control.console(lab.cloud, machine), 60, "a kernel that speaks")
    if victim != "nothing":
        kill(lab.cloud, victim)
