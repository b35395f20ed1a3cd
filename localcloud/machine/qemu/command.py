"""How QEMU is called: argument lists, as functions of what a machine is."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from localcloud.machine.devices import Device
from localcloud.machine.interface import MachineSpec, Size
from localcloud.machine.qemu.base_disk import ROOT_DEVICE
from localcloud.machine.qemu.firmware import Firmware
from localcloud.machine.qemu.guest import agent as guest

PROGRAM = "qemu-system-x86_64"
# Ports that wait for volumes: an NVMe device can only come to and leave a running machine behind one of its own.
VOLUME_PORTS = 16
# EC2 gives the first interface this slot, and udev names it after that: ens5.
_INTERFACE_SLOT = 5
_FIRST_VOLUME_SLOT = 32
# Where the root's port is on the bus, before those of the volumes or after them: kernels number disks in that order.
_ROOT_FIRST, _ROOT_LAST = (0x2, 1), (0x6, 0)
# Of the translated code that TCG keeps, in MiB: by default it would take as much as some machines have.
_TRANSLATED_MIB = 256
# The block node of the root disk, and the name of its write cache's socket.
ROOT_NODE = "root-disk"
_NAME = re.compile(r"(?:/dev/)?(sd[a-z][0-9]*|xvd[a-z]{1,2}[0-9]*)")


def arguments(
    spec: MachineSpec,
    boot: Path,
    devices: Sequence[Device],
    *,
    accelerator: str,
    tap: str,
    sockets: Path,
    uuid: str,
    firmware: Firmware | None = None,
    root_last: bool = False,
) -> list[str]:
    """Return QEMU's command line for a machine that boots its root disk with these devices.

    It boots by `firmware` and the boot loader on the disk, else by `boot`/kernel. `sockets` is the directory of its own
    two sockets and of one for each disk's write cache (drives.py), named after the disk's node; `tap` is its interface
    on the host's side; `uuid` begins with "ec2", which is how a guest sees where it runs. `root_last` has the kernel
    find its root's disk after the volumes. Raises OSError where firmware has no room; what else can't be had QEMU says
    itself.
    """
    program, how = (firmware.program, firmware.arguments(boot)) if firmware else (PROGRAM, _kernel(boot))
    return [
        program, "-name", spec.name, "-nodefaults", "-no-user-config", "-display", "none",
        "-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny",
        *how, *acceleration(accelerator),
        "-smp", str(processors(spec.size, accelerator)), "-m", str(spec.size.memory_bytes >> 20),
        "-rtc", "base=utc", "-device", "virtio-rng-pci,bus=pcie.0,addr=0x1e",
        # The slots' own hotplug: ACPI's gives them no numbers, and the interface would have another name.
        "-global", "ICH9-LPC.acpi-pci-hotplug-with-bridge-support=off",
        # A reboot ends this process, and the next one has the devices and the size of then.
        "-action", "reboot=shutdown",
        "-smbios", f"type=1,manufacturer=Amazon EC2,uuid={uuid},serial={uuid}",
        "-smbios", f"type=2,manufacturer=Amazon EC2,asset={spec.name}",
        *_told(devices, emulated=accelerator == "tcg"),
        "-chardev", f"file,id=console,path={_value(spec.directory / 'console.log')},append=on",
        "-serial", "chardev:console",
        "-chardev", f"socket,id=monitor,path={_value(sockets / 'monitor')},server=on,wait=off",
        "-mon", "chardev=monitor,mode=control",
        "-chardev", f"socket,id=agent,path={_value(sockets / 'agent')},server=on,wait=off",
        "-device", "virtio-serial-pci,bus=pcie.0,addr=0x1d",
        "-device", f"virtserialport,chardev=agent,name={guest.PORT}",
        *_port("interface", _INTERFACE_SLOT, 0x2, 0),
        "-netdev", f"tap,id=network,ifname={tap},script=no,downscript=no",
        "-device", f"virtio-net-pci,netdev=network,mac={spec.interface.mac},bus=interface",
        *_port("root", 1, *(_ROOT_LAST if root_last else _ROOT_FIRST)),
        "-blockdev", json.dumps({"driver": "qcow2", "node-name": ROOT_NODE, "discard": "unmap",
                                 "file": _behind_cache(sockets, ROOT_NODE)}),
        # The firmware's first and only choice; without firmware the kernel that QEMU is given is the first.
        "-device", f"nvme,drive={ROOT_NODE},bus=root,serial={root_serial(spec.name)}" + ",bootindex=0" * bool(firmware),
        *(word for number in range(VOLUME_PORTS) for word in _volume_port(number)),
        *(word for port, device in enumerate(devices) for word in _plugged(device, port, sockets)),
    ]  # fmt: skip


def processors(size: Size, accelerator: str) -> int:
    """Return how many processors a machine has: those of its instance type, but no more than this host.

    Emulated it has one. TCG with a thread for each (QEMU 7.2) runs on with breakpoints that the other one's kernel has
    taken out of its text again: Linux patches itself by them, and one boot of nine ended in "Oops: int3".
    """
    return min(size.processors, os.cpu_count() or 1) if accelerator == "kvm" else 1


def acceleration(accelerator: str) -> list[str]:
    """Return the words that choose `kvm` or `tcg`, with the processor that each can give."""
    if accelerator == "kvm":
        return ["-accel", "kvm", "-cpu", "host"]
    return ["-accel", f"tcg,thread=multi,tb-size={_TRANSLATED_MIB}", "-cpu", "max"]


def _kernel(boot: Path) -> list[str]:
    # By the partition's identity: NVMe devices may be found in another order than that of their slots.
    told = f"root={ROOT_DEVICE} rw rootwait console=ttyS0,115200n8"
    return ["-machine", "q35", "-kernel", str(boot / "kernel"), "-append", told]


def _told(devices: Sequence[Device], *, emulated: bool) -> list[str]:
    """Return the words that tell a guest the names that attachments asked for, and whether its processor is emulated.

    They are what it knows of its chassis: that reaches it before any process of it, whoever boots its kernel, and every
    kernel shows it (DMI). guest/ebs-name.sh and guest/start-limits.sh read it.
    """
    words = ["localcloud.emulated"] if emulated else []
    words += [f"{serial(device)}={name}" for device in devices if (name := link_name(device))]
    return ["-smbios", f"type=3,manufacturer=Amazon EC2,version={' '.join(words)}"] if words else []


def link_name(device: Device) -> str:
    """Return the name in /dev that ec2-utils would make a link of; empty for what is no device name of EC2's."""
    match = _NAME.fullmatch(device.requested)
    return match[1] if match else ""


def serial(device: Device) -> str:
    """Return an EBS volume's serial number: its id without the dash, 20 characters, the most that NVMe has."""
    return device.volume_id.replace("-", "")[:20]


def by_id(device: Device) -> str:
    """Return the link that the guest's udev makes to a volume, by Amazon's name for it (70-localcloud-ebs.rules)."""
    return f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{serial(device)}"


def root_serial(instance_id: str) -> str:
    """Return a root disk's serial. It has a volume only on record, so its number is made of the instance's."""
    return ("vol" + instance_id.partition("-")[2])[:20]


def node_name(device: Device) -> str:
    """Return the name of a volume's block node, and of its write cache's socket."""
    return f"node-{serial(device)}"


def block_node(device: Device, sockets: Path) -> dict[str, Any]:
    """Return the block node of a volume, whose write cache listens in `sockets`."""
    return {**_behind_cache(sockets, node_name(device)), "node-name": node_name(device)}


def nvme(device: Device, port: int) -> dict[str, Any]:
    """Return the NVMe controller of a volume in that port."""
    return {
        "driver": "nvme",
        "id": serial(device),
        "drive": node_name(device),
        "bus": f"volume{port}",
        "serial": serial(device),
    }


def _behind_cache(sockets: Path, name: str) -> dict[str, Any]:
    return {"driver": "nbd", "server": {"type": "unix", "path": str(sockets / name)}, "discard": "unmap"}


def _plugged(device: Device, port: int, sockets: Path) -> list[str]:
    return ["-blockdev", json.dumps(block_node(device, sockets)), "-device", json.dumps(nvme(device, port))]


def _volume_port(number: int) -> list[str]:
    slot, function = divmod(number, 8)
    return _port(f"volume{number}", _FIRST_VOLUME_SLOT + number, 0x3 + slot, function)


def _port(name: str, slot: int, address: int, function: int) -> list[str]:
    several = ",multifunction=on" if function == 0 else ""
    place = f"bus=pcie.0,addr={address:#x}.{function:#x}{several}"
    return ["-device", f"pcie-root-port,id={name},chassis={slot},slot={slot},io-reserve=0,{place}"]


def _value(path: Path) -> str:
    """Return a path as a value among commas."""
    return str(path).replace(",", ",,")
