"""Volumes that come to and leave a running machine, and the names that they have in it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from localcloud.machine.devices import Device
from localcloud.machine.interface import Ran
from localcloud.machine.qemu import command
from localcloud.machine.qemu.monitor import Monitor
from support.errors import Error

log = logging.getLogger(__name__)
# The guest's kernel waits 5 s before it lets go of a device, so that a person could think again.
_DETACH_SECONDS = 40.0
_SCRIPT_SECONDS = 60.0
# A volume that comes back may be asked for by another name.
_NAME = """
mkdir -p /run/localcloud && touch /run/localcloud/volumes
sed -i "/^$1=/d" /run/localcloud/volumes && echo "$1=$2" >>/run/localcloud/volumes
"""
# Who attaches a volume expects its links then, and udev makes them a moment later.
_SETTLE = 'for _ in $(seq 200); do [ -b "$1" ] && break; sleep 0.1; done; udevadm settle --timeout=20'
# Where a volume, or a partition of it, is mounted; nothing where it is not there.
_MOUNTS = 'lsblk --noheadings --output MOUNTPOINTS "$1" 2>/dev/null'

# How a shell script with arguments runs in the machine; None while nothing there listens.
RunScript = Callable[[str, Sequence[str], float], Ran | None]


class Plugs:
    """Which volume is in which port of one machine; `sockets` has those of the volumes' write caches."""

    def __init__(self, name: str, sockets: Path) -> None:
        self._name = name
        self._sockets = sockets
        self._ports: dict[int, Device] = {}

    def begin(self, devices: Sequence[Device]) -> None:
        """Take these devices for those that the next start has, in the first ports."""
        self._ports = dict(enumerate(devices))

    def begin_again(self) -> list[Device]:
        """Return the devices of the next start: those of now, in the first ports."""
        self.begin([self._ports[port] for port in sorted(self._ports)])
        return list(self._ports.values())

    def plug(self, device: Device, monitor: Monitor, run: RunScript) -> None:
        """Plug a device in. Raises `machine-failed`."""
        port = next((number for number in range(command.VOLUME_PORTS) if number not in self._ports), None)
        if port is None:
            raise Error(
                f"{self._name} has no place for another volume",
                code="machine-failed",
                expected=f"at most {command.VOLUME_PORTS} data volumes",
                found=f"{len(self._ports)} attached",
            )
        # Before the device comes: udev asks for its name at once.
        if run(_NAME, [command.serial(device), command.link_name(device)], _SCRIPT_SECONDS) is None:
            log.warning("%s hears nothing yet: %s has no name of its own there", self._name, device.volume_id)
        monitor.forget_deletion(command.serial(device))
        monitor.execute("blockdev-add", command.block_node(device, self._sockets))
        try:
            monitor.execute("device_add", command.nvme(device, port))
        except Error:
            self._delete_node(device, monitor)
            raise
        self._ports[port] = device
        run(_SETTLE, [command.by_id(device)], _SCRIPT_SECONDS)

    def unplug(self, device: Device, monitor: Monitor, run: RunScript) -> None:
        """Unplug a device. Raises `volume-failed` while it is mounted, and where the machine does not let go of it."""
        # A controller can be pulled from under a file system; EC2 waits for the unmount instead.
        looked = run(_MOUNTS, [command.by_id(device)], _SCRIPT_SECONDS)
        if looked is not None and looked.stdout.strip():
            raise Error(
                f"{device.volume_id} is still mounted in {self._name}",
                code="volume-failed",
                expected="an unmounted volume",
                found=f"mounted at {looked.stdout.strip()}",
            )
        monitor.execute("device_del", {"id": command.serial(device)})
        if not monitor.wait_for_deletion(command.serial(device), _DETACH_SECONDS):
            raise Error(
                f"{self._name} does not let go of {device.volume_id}",
                code="volume-failed",
                expected=f"its kernel to take the device away within {_DETACH_SECONDS:.0f} s",
                found="still there",
            )
        self._delete_node(device, monitor)
        self._ports = {port: each for port, each in self._ports.items() if each.volume_id != device.volume_id}

    def _delete_node(self, device: Device, monitor: Monitor) -> None:
        monitor.execute("blockdev-del", {"node-name": command.node_name(device)})
