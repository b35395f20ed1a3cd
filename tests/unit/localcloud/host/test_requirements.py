"""What a cloud asks of its host and does to it, as far as it can be told without root."""

from __future__ import annotations

import dataclasses
import ipaddress
import os
from functools import partial
from pathlib import Path

import pytest

from localcloud import control
from localcloud.host import cgroups, requirements
from localcloud.host.cgroups import Hierarchies, hierarchies
from localcloud.machine import devices
from localcloud.machine.devices import Device
from localcloud.machine.nspawn import _meminfo
from localcloud.net import addresses
from localcloud.services.ssm import is_online
from localcloud.settings import (
    BaseImage,
    Cloud,
    CloudSettings,
    check,
    cloud_to_json,
    link_name,
    make_key,
    read_cloud,
    settings_from_json,
    settings_to_json,
)
from support.output import show
from tests.support.errors import raises


def network(text: str) -> addresses.Network:
    return ipaddress.ip_network(text)


@pytest.fixture
def settings(tmp_path: Path) -> CloudSettings:
    (tmp_path / "root" / "usr").mkdir(parents=True)
    image = BaseImage(name="base", root=tmp_path / "root")
    return CloudSettings(images=(image,), authority=tmp_path / "authority", state=tmp_path / "state")


def test_the_first_free_index_is_taken() -> None:
    assert addresses.pick_index([]) == 0
    assert addresses.pick_index([network("10.212.0.0/30"), network("10.213.1.0/24")]) == 2


def test_an_address_anywhere_in_the_machines_subnet_is_an_obstacle() -> None:
    assert addresses.pick_index([network("10.213.0.77/32")]) == 1
    assert addresses.pick_index([network("10.212.0.0/22")]) == 4


def test_the_default_route_and_a_vpn_s_wide_one_are_no_obstacle() -> None:
    """A whole 10.0.0.0/8 would leave nothing: our narrower routes shadow it."""
    assert addresses.pick_index([network("0.0.0.0/0"), network("10.0.0.0/8"), network("fd00::/8")]) == 0


def test_when_nothing_is_free_that_is_said() -> None:
    with raises("no-subnet-free", match="take down"):
        addresses.pick_index([network("10.212.0.0/16")])


def test_a_link_s_name_fits_and_is_the_cloud_s_own() -> None:
    names = {link_name(Path(f"/var/lib/localcloud/{name}")) for name in ("default", "rehearsal", "x" * 31)}
    assert len(names) == 3
    assert all(len(name) <= 15 and len(addresses.peer_name(name)) <= 15 for name in names)


HYBRID = """\
31 24 0:27 / /sys/fs/cgroup rw - tmpfs tmpfs rw
36 31 0:33 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""
UNIFIED = "41 31 0:38 / /sys/fs/cgroup rw,relatime shared:9 - cgroup2 cgroup2 rw,nsdelegate\n"


def test_control_groups_are_found_on_hybrid_and_on_unified_hosts() -> None:
    assert hierarchies(HYBRID) == Hierarchies(Path("/sys/fs/cgroup/unified"), Path("/sys/fs/cgroup/memory"))
    assert hierarchies(UNIFIED) == Hierarchies(Path("/sys/fs/cgroup"), None)


def test_a_host_without_cgroup2_is_told_what_to_do() -> None:
    with raises("host-unfit", match="mount -t cgroup2"):
        hierarchies(HYBRID.replace("cgroup2", "cgroup"))


def test_clouds_of_one_name_in_two_directories_have_two_groups() -> None:
    assert cgroups.group_name(Path("/a/default")) != cgroups.group_name(Path("/b/default"))


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A directory with a program of each name that a cloud is made of."""
    for name in requirements.PROGRAMS:
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.touch(mode=0o755)
    return tmp_path / "bin"


def test_missing_programs_are_named_with_their_debian_packages(settings: CloudSettings, programs: Path) -> None:
    (programs / "dnsmasq").unlink()
    with raises("programs-missing", match="apt-get install --yes dnsmasq-base"):
        requirements.check(settings, user=0, search=str(programs))


def test_without_root_nothing_is_begun(settings: CloudSettings) -> None:
    with raises("not-root", match="sudo"):
        control.up(settings, partial(requirements.check, user=1000))
    assert not settings.state.exists()


def test_too_little_disk_is_told_before_anything_is_begun(settings: CloudSettings, programs: Path) -> None:
    images = (dataclasses.replace(settings.images[0], architecture="x86_64"),)
    check = partial(requirements.check, user=0, search=str(programs), needed_bytes=1 << 60)
    with raises("disk-too-small"):
        control.up(dataclasses.replace(settings, images=images), check)
    assert not settings.state.exists()


@pytest.mark.parametrize("name", ["", "Big", "../up", "a b", "x" * 32, "-dash", "a\n"])
def test_a_name_that_is_no_plain_word_is_refused(name: str, tmp_path: Path) -> None:
    with raises("bad-settings"):
        check(CloudSettings(images=(), authority=tmp_path, name=name))
    with raises("bad-settings"):
        control.down(name, tmp_path)


def test_an_image_without_a_root_file_system_and_a_region_that_is_none_are_refused(tmp_path: Path) -> None:
    with raises("bad-settings", match="no such directory"):
        check(CloudSettings(images=(BaseImage(name="a", root=tmp_path / "none"),), authority=tmp_path))
    with raises("bad-settings", match="region"):
        check(CloudSettings(images=(), authority=tmp_path, region="europe"))


def test_settings_and_clouds_are_read_as_they_were_written(settings: CloudSettings) -> None:
    assert settings_from_json(settings_to_json(settings)) == settings
    cloud = Cloud(name="default", region="eu-west-1", directory=settings.directory, index=3)
    settings.directory.mkdir(parents=True)
    assert read_cloud(settings.directory) is None
    (settings.directory / "cloud.json").write_text(cloud_to_json(cloud)[:10])
    assert read_cloud(settings.directory) is None  # half written: its maker was killed
    (settings.directory / "cloud.json").write_text(cloud_to_json(cloud))
    assert read_cloud(settings.directory) is None  # without its key nobody could call it
    key = make_key(settings.directory)
    assert read_cloud(settings.directory) == dataclasses.replace(cloud, key=key)
    assert key not in cloud_to_json(dataclasses.replace(cloud, key=key))


def test_a_cloud_s_key_is_random_and_root_s_alone_and_is_not_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = set()
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        keys.add(make_key(tmp_path / name))
        assert (tmp_path / name / "key").stat().st_mode & 0o777 == 0o600
    assert len(keys) == 2
    assert all(len(key.removeprefix("LOCALCLOUD")) * 4 == 128 for key in keys)
    cloud = Cloud(name="default", region="eu-west-1", directory=tmp_path, index=3, key=keys.pop())
    for as_json in (True, False):
        show(cloud, as_json)
    assert cloud.key not in capsys.readouterr().out + repr(cloud)


def test_a_machine_that_is_not_there_is_named_with_those_that_are(settings: CloudSettings) -> None:
    cloud = Cloud(name="default", region="eu-west-1", directory=settings.directory, index=3)
    settings.directory.mkdir(parents=True)
    assert control.machines(cloud) == []
    for ask in (control.console, control.shell_command):
        for name in ("i-0123456789abcdef0", "../../../etc/passwd"):
            with raises("unknown-machine"):
                ask(cloud, name)


def test_a_volume_gets_ec2_s_links_and_a_strange_device_name_gets_none() -> None:
    device = Device("nvme1n1", "/dev/sdf", "vol-0123", 7, 3)
    assert devices.links(device) == ["/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123", "/dev/sdf"]
    for requested in ("/dev/sdf; rm -rf /", "../../etc/passwd", "$(id)", ""):
        assert len(devices.links(Device("nvme1n1", requested, "vol-0123", 7, 3))) == 1
        assert requested == "" or requested not in devices.appear(Device("nvme1n1", requested, "vol-0123", 7, 3))


def test_nvme_names_start_after_the_root_volume_s_and_fill_gaps() -> None:
    assert devices.free_node(set()) == "nvme1n1"
    assert devices.free_node({"nvme1n1", "nvme3n1"}) == "nvme2n1"


def test_meminfo_is_the_instance_type_s() -> None:
    assert "MemTotal:        2097152 kB" in _meminfo(2 << 30)


def test_an_instance_is_online_while_its_agent_is_or_without_one_when_it_is_up() -> None:
    def shown(agent: str, basic: str) -> str:
        return f"{agent}\n\n{basic}\n"

    running, dead = "LoadState=loaded\nActiveState=active", "LoadState=loaded\nActiveState=inactive"
    missing = "LoadState=not-found\nActiveState=inactive"
    assert is_online(shown(running, running))
    assert not is_online(shown(dead, running))
    assert is_online(shown(missing, running))
    assert not is_online(shown(missing, dead))
    assert not is_online("")


def test_the_link_is_for_root_and_for_who_became_root_by_sudo() -> None:
    root = os.geteuid()
    assert addresses.owners({}) == {root}
    assert addresses.owners({"SUDO_UID": "1000"}) == {root, 1000}
    assert addresses.owners({"SUDO_UID": "0; drop"}) == {root}
