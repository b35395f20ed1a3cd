"""A cloud whose machines have a kernel of their own: emulated, where KVM does not boot it, which takes minutes each."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud import control
from localcloud.machine.qemu import acceleration, base_disk
from localcloud.settings import QEMU, CloudSettings
from tests.machines import conftest as machines
from tests.support.machines.host_state import difference, host_state
from tests.support.machines.lab import Lab
from zmanim_ami.rehearsal import kernel
from zmanim_ami.toolchain.environment import user_cache

workspace, authority, base_root = machines.workspace, machines.authority, machines.base_root
cloud_settings = machines.cloud_settings
PATIENCE = 400.0


@pytest.fixture(scope="session")
def own_kernel(workspace: Path, cloud_settings: CloudSettings) -> CloudSettings:
    """Settings of a cloud whose base image has a disk and a kernel."""
    (image,) = cloud_settings.images
    (workspace / "disk").mkdir()
    base_disk.make(image.root, kernel.fetch(user_cache()), workspace / "disk", emulator=kernel.shipped_emulator())
    return dataclasses.replace(
        cloud_settings,
        images=(dataclasses.replace(image, disk=workspace / "disk"),),
        machines=QEMU,
        accelerator=acceleration.choose("auto", workspace / "disk" / base_disk.KERNEL, workspace),
        name=f"{cloud_settings.name}k",
        state=workspace / "kernel",
    )


@pytest.fixture(scope="session")
def lab(own_kernel: CloudSettings) -> Iterator[Lab]:
    """A cloud, and the promise that nothing of it stays."""
    before = host_state(own_kernel.directory)
    cloud = control.up(own_kernel)
    try:
        yield Lab(cloud, own_kernel.images[0].root, own_kernel.state.parent, patience=PATIENCE)
    finally:
        control.down(own_kernel.name, own_kernel.state)
    assert difference(before, own_kernel.directory) == {}
    assert not own_kernel.state.exists()


@pytest.fixture(scope="session")
def machine(lab: Lab) -> str:
    """One machine with a data volume, for all tests: each leaves it running."""
    volume = {"DeviceName": "/dev/sdf", "Ebs": {"VolumeSize": 1, "VolumeType": "gp3"}}
    return lab.launch_and_wait(BlockDeviceMappings=[volume])
