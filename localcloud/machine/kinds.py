"""The kinds of machine that a cloud can have, by the name that its settings give them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from localcloud.bad_day import Weather
from localcloud.machine import nspawn
from localcloud.machine.interface import Machine, MachineSpec
from localcloud.machine.layers import Layers
from localcloud.machine.nspawn import NspawnMachine
from localcloud.machine.qemu import machine as qemu
from localcloud.machine.qemu.disks import Disks
from localcloud.machine.qemu.machine import QemuMachine
from localcloud.settings import QEMU, CloudSettings


@dataclass(frozen=True)
class Kind:
    """What a fleet makes machines of: what their root file systems are, themselves, and how their remains go."""

    layers: type[Layers]
    make: Callable[[MachineSpec], Machine]
    remove: Callable[[MachineSpec], None]


NSPAWN_KIND = Kind(Layers, NspawnMachine, nspawn.remove)


def kind_of(settings: CloudSettings) -> Kind:
    """Return the kind of machine that a cloud was asked to have."""
    if settings.machines == QEMU:
        return Kind(
            Disks,
            partial(QemuMachine, accelerator=settings.accelerator, weather=Weather(settings.directory)),
            qemu.remove,
        )
    return NSPAWN_KIND
