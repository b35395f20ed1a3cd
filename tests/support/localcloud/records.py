"""A fleet whose machines, layers and volumes are only records: all of the cloud's states, and nothing that boots."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from localcloud.ec2.fleet import Fleet
from localcloud.machine.devices import Device
from localcloud.machine.interface import MachineSpec, Ran, Size
from localcloud.machine.kinds import Kind
from localcloud.machine.layers import Layers
from localcloud.net.network import Interfaces
from localcloud.settings import Cloud
from support.errors import Error


class RecordedMachine:
    """A machine that runs when it was started."""

    def __init__(self, spec: MachineSpec) -> None:
        self.running = False

    def start(self, root: Path, devices: Sequence[Device], on_exit: Callable[[], None]) -> None:
        self.running = True

    def stop(self) -> None:
        self.running = False

    def kill(self) -> None:
        self.running = False

    def resize(self, size: Size) -> None:
        return

    def reboot(self) -> None:
        return

    def run(self, command: Sequence[str], *, input: str = "", timeout: float | None = None) -> Ran:
        if not self.running:
            raise Error("the machine does not run", code="machine-failed")
        active = "LoadState=loaded\nActiveState=active"
        return Ran(0, f"{active}\n\n{active}" if "show" in command else "", "")

    def console(self) -> bytes:
        return b"booted\r\n"

    def attach(self, device: Device) -> None:
        return

    def detach(self, device: Device) -> None:
        return


class _Records:
    """Stands for what keeps files: everything is done, and nothing is there."""

    def attach(self, *_: Any) -> tuple[int, int]:
        return 7, 0

    def detach(self, *_: Any, **__: Any) -> bool:
        return True

    def mount(self, _instance_id: str) -> Path:
        return Path("/nowhere")

    def holds(self, _image_id: str) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return lambda *_, **__: None


@contextmanager
def record_fleet(cloud: Cloud) -> Iterator[Fleet]:
    """A cloud's fleet, as it is but for what it is made of."""
    fleet: Any = Fleet(cloud.directory, Interfaces(cloud), Kind(Layers, RecordedMachine, lambda _: None))
    fleet.layers = fleet.volumes = _Records()
    fleet.wait_for_ssh = lambda *_: None
    yield fleet
