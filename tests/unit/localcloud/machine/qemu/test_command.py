"""How QEMU is called: what a guest sees of its volumes, its interface and where it runs is in these words."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import pytest

from localcloud.machine.devices import Device
from localcloud.machine.interface import MachineSpec
from localcloud.machine.qemu import command
from localcloud.machine.qemu.base_disk import ROOT_DEVICE
from localcloud.net.network import Interface

DATA = Device("nvme1n1", "/dev/sdf", "vol-0123456789abcdef0", 7, 12)


def words(directory: Path, *devices: Device, accelerator: str = "tcg") -> list[str]:
    interface = Interface("10.213.7.10", "06:ec:0a:d5:07:0a", "ip-10-213-7-10", Path("/run/netns/i-1"))
    spec = MachineSpec("i-0fedcba9876543210", directory, interface, 2 << 30)
    return command.arguments(
        spec,
        directory / "root",
        devices,
        accelerator=accelerator,
        tap="mtap",
        sockets=Path("/run/qemu/i-1"),
        uuid="ec2-uuid",
    )


def values(arguments: list[str], option: str) -> list[str]:
    return [value for word, value in pairwise(arguments) if word == option]


def test_a_machine_has_the_memory_of_its_type(tmp_path: Path) -> None:
    assert values(words(tmp_path), "-m") == ["2048"]


@pytest.mark.parametrize(("accelerator", "processor"), [("kvm", "host"), ("tcg", "max")])
def test_only_kvm_shows_the_host_s_processor(tmp_path: Path, accelerator: str, processor: str) -> None:
    arguments = words(tmp_path, accelerator=accelerator)
    assert values(arguments, "-accel")[0].partition(",")[0] == accelerator
    assert values(arguments, "-cpu") == [processor]


def test_a_volume_has_the_serial_that_ebs_gives_it_and_is_the_host_s_loop_device(tmp_path: Path) -> None:
    arguments = words(tmp_path, DATA)
    node = json.loads(values(arguments, "-blockdev")[-1])
    device = json.loads(values(arguments, "-device")[-1])
    assert node["file"] == {"driver": "host_device", "filename": "/dev/loop12"}
    assert device["drive"] == node["node-name"]
    assert (device["driver"], device["serial"]) == ("nvme", "vol0123456789abcdef0")
    assert any(value.startswith(f"pcie-root-port,id={device['bus']},") for value in values(arguments, "-device"))


def test_the_kernel_is_told_the_name_that_an_attachment_asked_for(tmp_path: Path) -> None:
    (line,) = values(words(tmp_path, DATA), "-append")
    assert "localcloud.volume=vol0123456789abcdef0=sdf" in line.split()


@pytest.mark.incident("the root's NVMe device was the second one as soon as a machine had a data volume")
def test_the_kernel_finds_its_root_whatever_the_order_of_its_disks(tmp_path: Path) -> None:
    (line,) = values(words(tmp_path, DATA), "-append")
    assert f"root={ROOT_DEVICE}" in line.split()
    assert "nvme" not in line


@pytest.mark.parametrize("requested", ["/dev/sdf rw init=/bin/sh", "sdf,x", "/dev/../etc/passwd", "", "/dev/nvme7n1"])
def test_a_name_that_udev_would_make_no_link_of_is_no_word_of_the_kernel_s(tmp_path: Path, requested: str) -> None:
    """A device name comes from an API call: it must not choose the kernel's root or init."""
    device = Device("nvme1n1", requested, "vol-0123456789abcdef0", 7, 12)
    assert command.link_name(device) == ""
    named, nameless = (command.kernel_command_line(each, emulated=False) for each in ([device], []))
    assert named == nameless


@pytest.mark.parametrize(
    ("requested", "name"), [("/dev/sdf", "sdf"), ("sdf1", "sdf1"), ("/dev/xvdba", "xvdba"), ("xvdf", "xvdf")]
)
def test_the_names_of_ec2_s_attachments_become_links(requested: str, name: str) -> None:
    assert command.link_name(Device("nvme1n1", requested, "vol-1", 7, 0)) == name


def test_a_guest_learns_from_its_firmware_that_it_is_on_ec2_and_which_instance_it_is(tmp_path: Path) -> None:
    system, board = values(words(tmp_path), "-smbios")
    assert "manufacturer=Amazon EC2,uuid=ec2-uuid,serial=ec2-uuid" in system
    assert "asset=i-0fedcba9876543210" in board


def test_the_interface_is_in_the_slot_after_which_udev_names_it_ens5(tmp_path: Path) -> None:
    devices = values(words(tmp_path), "-device")
    assert any(value.startswith("pcie-root-port,id=interface,") and ",slot=5," in value for value in devices)
    assert "virtio-net-pci,netdev=network,mac=06:ec:0a:d5:07:0a,bus=interface" in devices


def test_no_two_ports_have_one_place_or_one_slot(tmp_path: Path) -> None:
    ports = [value for value in values(words(tmp_path), "-device") if value.startswith("pcie-root-port,")]
    settings = [dict(part.split("=", 1) for part in port.split(",")[1:]) for port in ports]
    assert len(ports) == command.VOLUME_PORTS + 2
    for each in ("id", "slot", "chassis", "addr"):
        assert len({setting[each] for setting in settings}) == len(ports)


def test_a_comma_in_a_path_is_no_new_option(tmp_path: Path) -> None:
    consoles = [value for value in values(words(tmp_path / "a,b"), "-chardev") if value.startswith("file,")]
    assert consoles == [f"file,id=console,path={tmp_path}/a,,b/console.log,append=on"]


@pytest.mark.parametrize(("accelerator", "emulated"), [("tcg", True), ("kvm", False)])
def test_a_guest_is_told_when_its_processor_is_emulated(tmp_path: Path, accelerator: str, emulated: bool) -> None:
    (line,) = values(words(tmp_path, accelerator=accelerator), "-append")
    assert ("localcloud.emulated" in line.split()) is emulated
