"""The machines of a cloud by instance id, with their layers, volumes and interfaces.

Nothing here knows moto. Every operation on one machine waits for the one before it; who calls them does so in threads.
"""

from __future__ import annotations

import json
import logging
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.machine.devices import Device, free_node
from localcloud.machine.interface import Machine, MachineSpec, Size
from localcloud.machine.kinds import NSPAWN_KIND, Kind
from localcloud.machine.volumes import Volumes
from localcloud.net.network import Interfaces
from support.errors import Error
from support.files import write_atomically
from support.waiting import wait_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Attachment:
    """A volume that an instance has: its id, its size in GiB, and the device name that was asked for."""

    volume_id: str
    size_gib: int
    requested: str


@dataclass
class Instance:
    """One instance: its machine, the devices it has now, and the lock that puts its operations in a row.

    `state` is what the API shows, `since` when it was last started; `terminated` says that it has no machine any more.
    """

    spec: MachineSpec
    machine: Machine
    image_id: str
    state: str = "pending"
    since: float = field(default_factory=time.time)
    terminated: bool = False
    on_exit: Callable[[], None] = lambda: None
    devices: dict[str, Device] = field(default_factory=dict)
    lock: threading.RLock = field(default_factory=threading.RLock)


class Fleet:
    """All machines of the cloud."""

    def __init__(self, directory: Path, interfaces: Interfaces, kind: Kind = NSPAWN_KIND) -> None:
        self.layers = kind.layers(directory)
        self.volumes = Volumes(directory)
        self._directory = directory
        self._interfaces = interfaces
        self._kind = kind
        self._instances: dict[str, Instance] = {}
        self._lock = threading.Lock()

    def room(self) -> int:
        """Say how many more instances there can be."""
        return self._interfaces.room

    def create(self, instance_id: str, image_id: str, size: Size, address: str | None = None) -> Instance:
        """Give a new instance its layers, address (the one that is asked for) and machine, not started yet.

        Raises Error, or what the file system does: then there is no instance.
        """
        directory = self._directory / "machines" / instance_id
        interface = self._interfaces.take(instance_id, address)
        try:
            spec = MachineSpec(instance_id, directory, interface, size)
            self.layers.create(instance_id, image_id)
            instance = self._instances[instance_id] = Instance(spec, self._kind.make(spec), image_id)
            self._save()
        except BaseException:
            self._instances.pop(instance_id, None)
            self.layers.forget_instance(instance_id)
            self._interfaces.give_back(interface)
            shutil.rmtree(directory, ignore_errors=True)
            raise
        return instance

    def discard(self, instance_id: str) -> None:
        """Take back what `create` made of an instance that was never started."""
        instance = self.instance(instance_id)
        self.destroy(instance_id)
        del self._instances[instance_id]
        shutil.rmtree(instance.spec.directory, ignore_errors=True)
        self._save()

    def instance(self, instance_id: str) -> Instance:
        """Return one instance. Raises `machine-failed` when there is none."""
        if instance := self._instances.get(instance_id):
            return instance
        raise Error(
            f"there is no machine {instance_id}",
            code="machine-failed",
            expected="a machine of this cloud",
            found="none",
        )

    def known(self, instance_id: str) -> bool:
        """Say whether there is an instance of that id."""
        return instance_id in self._instances

    def by_address(self, address: str) -> str | None:
        """Return the id of the instance that has this address."""
        # A copy: another thread may be launching a machine.
        existing = [instance.spec for instance in list(self._instances.values()) if not instance.terminated]
        return next((spec.name for spec in existing if spec.interface.address == address), None)

    @contextmanager
    def in_turn(self, instance_id: str) -> Iterator[Instance]:
        """Hold one instance's lock: its operations happen one after the other."""
        instance = self.instance(instance_id)
        with instance.lock:
            yield instance

    def note(self, instance_id: str, state: str) -> None:
        """Record the state that the API shows, for `control.machines`."""
        if instance := self._instances.get(instance_id):
            instance.state = state
            if state in {"pending", "running"}:
                instance.since = time.time()
        self._save()

    def resize(self, instance_id: str, size: Size) -> None:
        """Give a stopped instance another size."""
        with self.in_turn(instance_id) as instance:
            instance.machine.resize(size)

    def boot(self, instance_id: str, attachments: list[Attachment], on_exit: Callable[[], None]) -> None:
        """Start an instance's machine with its volumes. Raises `machine-failed`, `layer-failed` or `volume-failed`."""
        with self.in_turn(instance_id) as instance:
            instance.on_exit = on_exit
            try:
                for attachment in attachments:
                    self._plug(instance, attachment)
                root = self.layers.mount(instance_id)
                instance.machine.start(root, list(instance.devices.values()), on_exit)
            except BaseException:
                self._release(instance)
                raise

    def resume(self, instance_id: str, attachments: list[Attachment]) -> None:
        """Start a machine that was halted and whose instance is to run on: off, as it is by itself, when it can't."""
        with self.in_turn(instance_id) as instance:
            try:
                self.boot(instance_id, attachments, instance.on_exit)
            except Error:
                log.exception("%s can't start again", instance_id)
                instance.on_exit()

    def wait_for_ssh(self, instance_id: str, seconds: float) -> None:
        """Wait until an instance's SSH port answers, `seconds` at most: an image need not have a server."""
        instance = self.instance(instance_id)

        def settled() -> bool:
            with socket.socket() as probe:
                probe.settimeout(0.2)
                return not instance.machine.running or not probe.connect_ex((instance.spec.interface.address, 22))

        wait_for(settled, seconds, 0.02)

    def halt(self, instance_id: str, *, power_cut: bool = False) -> None:
        """Stop an instance's machine if it runs, cleanly or by cutting its power; its volumes are free afterwards."""
        with self.in_turn(instance_id) as instance:
            if instance.machine.running:
                instance.machine.kill() if power_cut else instance.machine.stop()
            self._release(instance)

    def destroy(self, instance_id: str) -> None:
        """Drop an instance that was halted: its address and its layers, not its console."""
        with self.in_turn(instance_id) as instance:
            instance.terminated = True
            self.layers.forget_instance(instance_id)
            self._interfaces.give_back(instance.spec.interface)
            self._kind.remove(instance.spec)

    def capture(self, instance_id: str, image_id: str) -> None:
        """Make an image of an instance: by renaming its layer when it does not run, else by copying it."""
        with self.in_turn(instance_id) as instance:
            if instance.machine.running:
                self.layers.copy(instance_id, image_id)
            else:
                self.layers.rotate(instance_id, image_id)

    def plug(self, instance_id: str, attachment: Attachment) -> None:
        """Attach a volume to a running machine. Raises `volume-failed` or `machine-failed`."""
        with self.in_turn(instance_id) as instance:
            if instance.machine.running:
                instance.machine.attach(self._plug(instance, attachment))

    def unplug(self, instance_id: str, volume_id: str) -> None:
        """Detach a volume from a running machine. Raises `volume-failed` when the machine still has it mounted."""
        with self.in_turn(instance_id) as instance:
            device = instance.devices.get(volume_id)
            if device is None:
                return
            if instance.machine.running:
                instance.machine.detach(device)
            # Without a mount the kernel frees it at once.
            if not self.volumes.detach(volume_id, patience=3):
                raise Error(
                    f"{volume_id} is still mounted in {instance_id}",
                    code="volume-failed",
                    expected="an unmounted volume",
                    found="busy",
                )
            del instance.devices[volume_id]

    def console(self, instance_id: str) -> bytes:
        """Return all that an instance has written to its console, ended ones' too."""
        return self.instance(instance_id).machine.console()

    def _plug(self, instance: Instance, attachment: Attachment) -> Device:
        major, minor = self.volumes.attach(attachment.volume_id, attachment.size_gib)
        node = free_node({device.node for device in instance.devices.values()})
        device = Device(node, attachment.requested, attachment.volume_id, major, minor)
        instance.devices[attachment.volume_id] = device
        return device

    def _release(self, instance: Instance) -> None:
        self.layers.unmount(instance.spec.name)
        for volume_id in list(instance.devices):
            if not self.volumes.detach(volume_id):
                log.error("the loop device of %s is still in use after its machine ended", volume_id)
            del instance.devices[volume_id]

    def _save(self) -> None:
        with self._lock:
            rows = [
                {"instance_id": name, "state": instance.state, "address": instance.spec.interface.address,
                 "image": instance.image_id, "since": instance.since}
                for name, instance in self._instances.items()
            ]  # fmt: skip
            write_atomically(self._directory / "machines.json", json.dumps(rows))
