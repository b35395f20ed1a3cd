"""What the rest of the cloud knows of a machine: one small interface, so that another kind of machine can stand in.

nspawn.py has machines that share the host's kernel, qemu/ whole ones with a kernel of their own; kinds.py names them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from localcloud.machine.devices import Device
from localcloud.net.network import Interface


@dataclass(frozen=True)
class Size:
    """What an instance type gives a machine: memory in bytes, and processors (vCPUs)."""

    memory_bytes: int
    processors: int


@dataclass(frozen=True)
class MachineSpec:
    """One machine: its name (the instance id), its own directory, its interface, its size."""

    name: str
    directory: Path
    interface: Interface
    size: Size


@dataclass(frozen=True)
class Ran:
    """A command that ended inside a machine; `timed_out` when it was ended for taking too long."""

    returncode: int
    stdout: str
    stderr: str
    timed_out: bool = False


class Machine(Protocol):
    """A machine that can be started any number of times. Every method blocks until its work is done."""

    @property
    def running(self) -> bool:
        """Whether it runs, also while it reboots."""

    def start(self, root: Path, devices: Sequence[Device], on_exit: Callable[[], None]) -> None:
        """Start it on that root file system and return once its init runs, or the kernel that it has of its own.

        `root` is what `Layers.mount` returned: a tree, or a directory with a disk and a kernel. `on_exit` is called, in
        another thread, when it ends without having been asked to. Raises `machine-failed`.
        """

    def stop(self) -> None:
        """Shut it down cleanly; kill it when that takes too long."""

    def kill(self) -> None:
        """Cut its power: what was not synced to its volumes is lost."""

    def resize(self, size: Size) -> None:
        """Give it another size from its next start on."""

    def reboot(self) -> None:
        """Ask its init to reboot, and return once the request was made."""

    def run(self, command: Sequence[str], *, input: str = "", timeout: float | None = None) -> Ran:
        """Run a command inside as root. Raises `machine-failed` when it does not run, or does not listen yet."""

    def console(self) -> bytes:
        """Return what it has written to its console since it was made."""

    def attach(self, device: Device) -> None:
        """Make a device appear in the running machine."""

    def detach(self, device: Device) -> None:
        """Make a device disappear from the running machine."""
