"""What a machine in systemd-nspawn is told of its size."""

from __future__ import annotations

from pathlib import Path

from localcloud.machine import nspawn
from localcloud.machine.interface import MachineSpec, Size
from localcloud.machine.nspawn import NspawnMachine
from localcloud.net.network import Interface


def test_another_size_is_what_the_machine_reads(tmp_path: Path) -> None:
    interface = Interface("10.213.7.10", "06:ec:00:00:00:01", "ip-10-213-7-10", Path("/run/netns/i-1"))
    machine = NspawnMachine(MachineSpec("i-1", tmp_path, interface, Size(1 << 30, 2)))
    machine.resize(Size(4 << 30, 2))
    assert f"MemTotal:        {4 << 20} kB" in (tmp_path / "shared" / "meminfo").read_text()
    assert machine.spec.size.memory_bytes == 4 << 30
    assert nspawn._meminfo(1 << 30) != nspawn._meminfo(4 << 30)
