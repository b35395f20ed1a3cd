"""What a cloud's machines are, is what its settings say."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from localcloud.ec2.fleet import Fleet
from localcloud.machine.interface import MachineSpec, Size
from localcloud.machine.kinds import NSPAWN_KIND, kind_of
from localcloud.machine.qemu.disks import Disks
from localcloud.machine.qemu.machine import QemuMachine
from localcloud.net.network import Interfaces
from localcloud.settings import (
    QEMU,
    BaseImage,
    Cloud,
    CloudSettings,
    check,
    settings_from_json,
    settings_to_json,
)
from tests.support.errors import raises


@pytest.fixture
def settings(tmp_path: Path) -> CloudSettings:
    """A cloud whose machines have a kernel of their own."""
    (tmp_path / "root" / "usr").mkdir(parents=True)
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "kernel").touch()
    image = BaseImage(name="base", root=tmp_path / "root", disk=tmp_path / "disk")
    return CloudSettings(images=(image,), authority=tmp_path, name="own", machines=QEMU, accelerator="kvm")


def test_machines_share_the_host_s_kernel_unless_the_settings_say_otherwise(settings: CloudSettings) -> None:
    assert kind_of(dataclasses.replace(settings, machines=CloudSettings.machines)) is NSPAWN_KIND


def test_a_fleet_makes_machines_of_the_kind_it_was_given(settings: CloudSettings, tmp_path: Path) -> None:
    interfaces = Interfaces(Cloud("own", "eu-west-1", tmp_path, 7, "key"))
    kind = kind_of(settings)
    assert isinstance(Fleet(tmp_path, interfaces, kind).layers, Disks)
    spec = MachineSpec("i-1", tmp_path / "machine", interfaces.take("i-1"), Size(1 << 30, 2))
    assert isinstance(kind.make(spec), QemuMachine)


def test_the_kind_and_the_disks_reach_the_server(settings: CloudSettings) -> None:
    assert settings_from_json(settings_to_json(settings)) == settings


def test_a_base_without_a_disk_is_refused_where_machines_need_one(settings: CloudSettings) -> None:
    check(settings)
    images = (dataclasses.replace(settings.images[0], disk=None),)
    with raises("bad-settings", match="no disk with a kernel"):
        check(dataclasses.replace(settings, images=images))
    check(dataclasses.replace(settings, images=images, machines=CloudSettings.machines))


def test_a_disk_image_has_no_tree_and_needs_none_but_for_machines_on_the_host_s_kernel(
    settings: CloudSettings, tmp_path: Path
) -> None:
    images = (dataclasses.replace(settings.images[0], root=tmp_path / "disk"),)
    check(dataclasses.replace(settings, images=images))
    with raises("bad-settings", match="no root file system"):
        check(dataclasses.replace(settings, images=images, machines=CloudSettings.machines))


def test_another_kind_is_refused(settings: CloudSettings) -> None:
    with raises("bad-settings", match="nspawn or qemu"):
        check(dataclasses.replace(settings, machines="vmware"))
