"""How QEMU is called: what a guest sees of its volumes, its interface and where it runs is in these words."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path

import pytest

from localcloud.machine.devices import Device
from localcloud.machine.interface import MachineSpec, Size
from localcloud.machine.qemu import command
from localcloud.machine.qemu.base_disk import ROOT_DEVICE
from localcloud.machine.qemu.firmware import FIRMWARE, Firmware
from localcloud.net.network import Interface

DATA = Device("nvme1n1", "/dev/sdf", "vol-0123456789abcdef0", 7, 12)


def words(
    directory: Path,
    *devices: Device,
    accelerator: str = "tcg",
    firmware: Firmware | None = None,
    root_last: bool = False,
) -> list[str]:
    interface = Interface("10.213.7.10", "06:ec:0a:d5:07:0a", "ip-10-213-7-10", Path("/run/netns/i-1"))
    spec = MachineSpec("i-0fedcba9876543210", directory, interface, Size(2 << 30, 2))
    return command.arguments(
        spec,
        directory / "root",
        devices,
        accelerator=accelerator,
        tap="mtap",
        sockets=Path("/run/qemu/i-1"),
        uuid="ec2-uuid",
        firmware=firmware,
        root_last=root_last,
    )


def values(arguments: list[str], option: str) -> list[str]:
    return [value for word, value in pairwise(arguments) if word == option]


def test_a_machine_has_the_memory_of_its_type(tmp_path: Path) -> None:
    assert values(words(tmp_path), "-m") == ["2048"]


@pytest.mark.parametrize(("host", "expected"), [(8, "2"), (2, "2"), (1, "1"), (None, "1")])
def test_by_kvm_it_has_the_processors_of_its_type_but_no_more_than_the_host_and_emulated_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: int | None, expected: str
) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: host)
    assert values(words(tmp_path, accelerator="kvm"), "-smp") == [expected]
    assert values(words(tmp_path, accelerator="tcg"), "-smp") == ["1"]


@pytest.mark.parametrize(("accelerator", "processor"), [("kvm", "host"), ("tcg", "max")])
def test_only_kvm_shows_the_host_s_processor(tmp_path: Path, accelerator: str, processor: str) -> None:
    arguments = words(tmp_path, accelerator=accelerator)
    assert values(arguments, "-accel")[0].partition(",")[0] == accelerator
    assert values(arguments, "-cpu") == [processor]


def test_a_volume_has_the_serial_that_ebs_gives_it_and_stands_behind_a_cache_of_its_own(tmp_path: Path) -> None:
    arguments = words(tmp_path, DATA)
    node = json.loads(values(arguments, "-blockdev")[-1])
    device = json.loads(values(arguments, "-device")[-1])
    socket = f"/run/qemu/i-1/{command.node_name(DATA)}"
    assert (node["driver"], node["server"]) == ("nbd", {"type": "unix", "path": socket})
    assert device["drive"] == node["node-name"]
    assert (device["driver"], device["serial"]) == ("nvme", "vol0123456789abcdef0")
    assert any(value.startswith(f"pcie-root-port,id={device['bus']},") for value in values(arguments, "-device"))


def test_a_guest_is_told_the_name_that_an_attachment_asked_for_whoever_boots_its_kernel(tmp_path: Path) -> None:
    other = Device("nvme2n1", "/dev/sdg", "vol-00000000000000001", 7, 13)
    *_, chassis = values(words(tmp_path, DATA, other, accelerator="kvm"), "-smbios")
    assert chassis == "type=3,manufacturer=Amazon EC2,version=vol0123456789abcdef0=sdf vol00000000000000001=sdg"


def test_the_root_s_qcow2_file_stands_behind_a_cache_and_a_discard_reaches_it(tmp_path: Path) -> None:
    node = json.loads(values(words(tmp_path), "-blockdev")[0])
    socket = {"type": "unix", "path": "/run/qemu/i-1/root-disk"}
    assert node["file"] == {"driver": "nbd", "server": socket, "discard": "unmap"}
    assert (node["driver"], node["node-name"], node["discard"]) == ("qcow2", command.ROOT_NODE, "unmap")


@pytest.mark.incident("the root's NVMe device was the second one as soon as a machine had a data volume")
def test_the_kernel_finds_its_root_whatever_the_order_of_its_disks(tmp_path: Path) -> None:
    (line,) = values(words(tmp_path, DATA), "-append")
    assert f"root={ROOT_DEVICE}" in line.split()
    assert "nvme" not in line


def test_the_root_s_disk_is_before_those_of_the_volumes_on_the_bus_or_behind_them_all(tmp_path: Path) -> None:
    def places(*, root_last: bool) -> dict[str, tuple[int, ...]]:
        """Return where each port is, in the order in which a kernel looks."""
        result = {}
        for value in values(words(tmp_path, root_last=root_last), "-device"):
            if value.startswith("pcie-root-port,"):
                given = dict(each.split("=") for each in value.split(",")[1:])
                result[given["id"]] = tuple(int(each, 16) for each in given["addr"].split("."))
        assert len(set(result.values())) == len(result) == command.VOLUME_PORTS + 2
        return result

    first, last = places(root_last=False), places(root_last=True)
    assert all(first["root"] < place for name, place in first.items() if name.startswith("volume"))
    assert all(last["root"] > place for name, place in last.items() if name.startswith("volume"))


@pytest.mark.parametrize("requested", ["/dev/sdf rw init=/bin/sh", "sdf,x", "/dev/../etc/passwd", "", "/dev/nvme7n1"])
def test_a_name_that_udev_would_make_no_link_of_is_no_word_to_the_guest(tmp_path: Path, requested: str) -> None:
    """A device name comes from an API call: it must not choose another of QEMU's options, nor name another volume."""
    device = Device("nvme1n1", requested, "vol-0123456789abcdef0", 7, 12)
    assert command.link_name(device) == ""
    assert values(words(tmp_path, device), "-smbios") == values(words(tmp_path), "-smbios")


@pytest.mark.parametrize(
    ("requested", "name"), [("/dev/sdf", "sdf"), ("sdf1", "sdf1"), ("/dev/xvdba", "xvdba"), ("xvdf", "xvdf")]
)
def test_the_names_of_ec2_s_attachments_become_links(requested: str, name: str) -> None:
    assert command.link_name(Device("nvme1n1", requested, "vol-1", 7, 0)) == name


def test_a_guest_learns_from_its_firmware_that_it_is_on_ec2_and_which_instance_it_is(tmp_path: Path) -> None:
    system, board = values(words(tmp_path, accelerator="kvm"), "-smbios")
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


@pytest.mark.parametrize(("accelerator", "told"), [("tcg", ["localcloud.emulated"]), ("kvm", [])])
def test_a_guest_is_told_when_its_processor_is_emulated(tmp_path: Path, accelerator: str, told: list[str]) -> None:
    chassis = [value for value in values(words(tmp_path, accelerator=accelerator), "-smbios") if "type=3" in value]
    assert [value.partition("version=")[2] for value in chassis] == told


def test_a_disk_with_a_boot_loader_is_started_by_firmware_and_no_kernel_is_given(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "template").write_text("variables")
    firmware = dataclasses.replace(FIRMWARE["x86_64"], variables=tmp_path / "template")
    arguments = words(tmp_path, DATA, firmware=firmware)
    assert values(arguments, "-kernel") == values(arguments, "-append") == []
    (machine,) = values(arguments, "-machine")
    kind, *flashes = machine.split(",")
    nodes = {node["node-name"]: node for node in map(json.loads, values(arguments, "-blockdev"))}
    code, kept = (nodes[each.partition("=")[2]] for each in flashes)
    assert (kind, code["file"]["filename"], code["read-only"]) == ("q35", str(firmware.code), True)
    assert (kept["file"]["filename"], kept["read-only"]) == (str(tmp_path / "root/variables"), False)
    (root,) = (each for each in values(arguments, "-device") if "drive=root-disk" in each)
    assert root.endswith(",bootindex=0")
    assert not any("bootindex" in each for each in values(words(tmp_path), "-device"))


def test_what_the_firmware_keeps_is_the_instance_s_own_and_stays(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "template").write_text("of Debian")
    firmware = dataclasses.replace(FIRMWARE["x86_64"], variables=tmp_path / "template")
    words(tmp_path, firmware=firmware)
    assert (tmp_path / "root/variables").read_text() == "of Debian"
    (tmp_path / "root/variables").write_text("of the machine")
    words(tmp_path, firmware=firmware)
    assert (tmp_path / "root/variables").read_text() == "of the machine"


def test_a_disk_for_arm64_has_its_own_qemu_and_its_own_kind_of_machine(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    (tmp_path / "template").touch()
    arguments = words(tmp_path, firmware=dataclasses.replace(FIRMWARE["aarch64"], variables=tmp_path / "template"))
    assert arguments[0] == "qemu-system-aarch64"
    assert values(arguments, "-machine")[0].startswith("virt,")
