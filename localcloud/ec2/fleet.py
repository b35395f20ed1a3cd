"""The machines of a cloud by instance id: what is real about an instance, with its layers, volumes and interface.

Nothing here knows moto. Every operation on one machine waits for the one before it; the hooks run them in threads.
"""

from __future__ import annotations

import json
import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.machine import nspawn
from localcloud.machine.devices import Device, free_node
from localcloud.machine.interface import Machine, MachineSpec
from localcloud.machine.layers import Layers
from localcloud.machine.nspawn import NspawnMachine
from localcloud.machine.volumes import Volumes
from localcloud.net.network import Interfaces
from support.errors import Error
from support.files import write_atomically

log = logging.getLogger(__name__)
CONSOLE_BYTES = 64 << 10


@dataclass(frozen=True)
class Attachment:
    """A volume that an instance has: its id, its size in GiB, and the device name that was asked for."""

    volume_id: str
    size_gib: int
    requested: str


@dataclass
class Unit:
    """One instance: its machine, the devices it has now, and the lock that puts its operations in a row."""

    spec: MachineSpec
    machine: Machine
    image_id: str
    state: str = "pending"
    since: float = field(default_factory=time.time)
    gone: bool = False
    devices: dict[str, Device] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Fleet:
    """All machines of the cloud."""

    def __init__(self, directory: Path, interfaces: Interfaces) -> None:
        self.layers = Layers(directory)
        self.volumes = Volumes(directory)
        self._directory = directory
        self._interfaces = interfaces
        self._units: dict[str, Unit] = {}
        self._lock = threading.Lock()

    def create(self, instance_id: str, image_id: str, memory_bytes: int) -> Unit:
        """Give a new instance its layers, address and machine, not started yet."""
        directory = self._directory / "machines" / instance_id
        spec = MachineSpec(instance_id, directory, self._interfaces.take(instance_id), memory_bytes)
        self.layers.create(instance_id, image_id)
        unit = self._units[instance_id] = Unit(spec, NspawnMachine(spec), image_id)
        self._write_down()
        return unit

    def unit(self, instance_id: str) -> Unit:
        """Return one instance's unit. Raises `machine-failed` when there is none."""
        if unit := self._units.get(instance_id):
            return unit
        raise Error(
            f"there is no machine {instance_id}",
            code="machine-failed",
            expected="a machine of this cloud",
            found="none",
        )

    def known(self, instance_id: str) -> bool:
        """Say whether there is a unit of that id."""
        return instance_id in self._units

    def by_address(self, address: str) -> str | None:
        """Return the id of the instance that has this address."""
        # A copy: another thread may be launching a machine.
        units = list(self._units.items())
        return next((name for name, unit in units if unit.spec.interface.address == address and not unit.gone), None)

    @contextmanager
    def in_turn(self, instance_id: str) -> Iterator[Unit]:
        """Hold one instance's lock: its operations happen one after the other."""
        unit = self.unit(instance_id)
        with unit.lock:
            yield unit

    def note(self, instance_id: str, state: str) -> None:
        """Record the state that the API shows, for `control.machines`."""
        if unit := self._units.get(instance_id):
            unit.state = state
            if state in {"pending", "running"}:
                unit.since = time.time()
        self._write_down()

    def boot(self, instance_id: str, attachments: list[Attachment], on_exit: Callable[[], None]) -> None:
        """Start an instance's machine with its volumes. Raises `machine-failed`, `layer-failed` or `volume-failed`."""
        with self.in_turn(instance_id) as unit:
            try:
                for attachment in attachments:
                    self._plug(unit, attachment)
                root = self.layers.mount(instance_id)
                unit.machine.start(root, list(unit.devices.values()), on_exit)
            except BaseException:
                self._after_end(unit)
                raise

    def wait_for_ssh(self, instance_id: str, seconds: float) -> None:
        """Wait until an instance's SSH port answers, `seconds` at most: an image need not have a server."""
        unit = self.unit(instance_id)
        deadline = time.monotonic() + seconds
        while unit.machine.running and time.monotonic() < deadline:
            try:
                socket.create_connection((unit.spec.interface.address, 22), timeout=0.2).close()
            except OSError:
                time.sleep(0.02)
            else:
                return

    def halt(self, instance_id: str, *, power_cut: bool = False) -> None:
        """Stop an instance's machine, cleanly or by cutting its power; its volumes are free afterwards."""
        with self.in_turn(instance_id) as unit:
            if unit.machine.running:
                unit.machine.kill() if power_cut else unit.machine.stop()
            self._after_end(unit)

    def ended(self, instance_id: str) -> None:
        """Tidy up after a machine that ended by itself."""
        with self.in_turn(instance_id) as unit:
            self._after_end(unit)

    def destroy(self, instance_id: str) -> None:
        """Drop an instance that was halted: its address and its layers, not its console."""
        with self.in_turn(instance_id) as unit:
            unit.gone = True
            self.layers.forget_instance(instance_id)
            self._interfaces.give_back(unit.spec.interface)
            nspawn.remove(unit.spec)

    def capture(self, instance_id: str, image_id: str) -> None:
        """Make an image of an instance: by renaming its layer when it does not run, else by copying it."""
        with self.in_turn(instance_id) as unit:
            if unit.machine.running:
                self.layers.copy(instance_id, image_id)
            else:
                self.layers.rotate(instance_id, image_id)

    def plug(self, instance_id: str, attachment: Attachment) -> None:
        """Attach a volume to a running machine. Raises `volume-failed` or `machine-failed`."""
        with self.in_turn(instance_id) as unit:
            if unit.machine.running:
                unit.machine.attach(self._plug(unit, attachment))

    def unplug(self, instance_id: str, volume_id: str) -> None:
        """Detach a volume from a running machine. Raises `volume-failed` when the machine still has it mounted."""
        with self.in_turn(instance_id) as unit:
            device = unit.devices.get(volume_id)
            if device is None:
                return
            if unit.machine.running:
                unit.machine.detach(device)
            # Without a mount the kernel frees it at once.
            if not self.volumes.detach(volume_id, patience=3):
                raise Error(
                    f"{volume_id} is still mounted in {instance_id}",
                    code="volume-failed",
                    expected="an unmounted volume",
                    found="busy",
                )
            del unit.devices[volume_id]

    def console(self, instance_id: str) -> bytes:
        """Return the last 64 KiB of an instance's console, ended ones' too."""
        return self.unit(instance_id).machine.console()[-CONSOLE_BYTES:]

    def _plug(self, unit: Unit, attachment: Attachment) -> Device:
        major, minor = self.volumes.attach(attachment.volume_id, attachment.size_gib)
        node = free_node({device.node for device in unit.devices.values()})
        device = Device(node, attachment.requested, attachment.volume_id, major, minor)
        unit.devices[attachment.volume_id] = device
        return device

    def _after_end(self, unit: Unit) -> None:
        self.layers.unmount(unit.spec.name)
        for volume_id in list(unit.devices):
            if not self.volumes.detach(volume_id):
                log.error("the loop device of %s is still in use after its machine ended", volume_id)
            del unit.devices[volume_id]

    def _write_down(self) -> None:
        with self._lock:
            rows = [
                {"instance_id": name, "state": unit.state, "address": unit.spec.interface.address,
                 "image": unit.image_id, "since": unit.since}
                for name, unit in self._units.items()
            ]  # fmt: skip
            write_atomically(self._directory / "machines.json", json.dumps(rows))
