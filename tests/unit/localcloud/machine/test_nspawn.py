"""A machine's end is told and waited for once, whatever taking it away raises: a forced stop once hung for ever."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from localcloud.machine import nspawn
from localcloud.machine.interface import MachineSpec
from localcloud.machine.nspawn import NspawnMachine
from localcloud.net.network import Interface


class Process:
    """systemd-nspawn, which ends with these codes one after the other."""

    def __init__(self, codes: list[int]) -> None:
        self.codes = codes
        self.may_end = threading.Event()

    def wait(self) -> int:
        self.may_end.wait(10)
        return self.codes.pop(0)


@pytest.fixture
def machine(tmp_path: Path) -> NspawnMachine:
    interface = Interface("10.213.7.10", "06:ec:00:00:00:01", "ip-10-213-7-10", Path("/run/netns/i-1"))
    return NspawnMachine(MachineSpec("i-1", tmp_path, interface, 1 << 30))


def broken(*_: Any, **__: Any) -> Any:
    raise FileNotFoundError(2, "a control group was removed meanwhile")


@pytest.mark.parametrize("codes", [[0], [133]], ids=["it ends", "it does not come back from a reboot"])
def test_an_end_is_told_though_something_of_the_machine_stays(
    machine: NspawnMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, codes: list[int]
) -> None:
    process, told = Process(codes), threading.Event()
    monkeypatch.setattr(machine, "_spawn", lambda _root: process)
    machine.start(tmp_path, [], told.set)
    assert machine.running
    for name in ("_kill_processes", "_spawn"):
        monkeypatch.setattr(machine, name, broken)
    process.may_end.set()
    assert told.wait(5)
    assert not machine.running


def test_a_start_that_fails_leaves_a_machine_that_does_not_run(
    machine: NspawnMachine, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("_spawn", "_kill_processes"):
        monkeypatch.setattr(machine, name, broken)
    with pytest.raises(FileNotFoundError):
        machine.start(tmp_path, [], lambda: None)
    assert not machine.running


def test_a_machine_that_is_cut_off_while_it_reboots_is_cut_off_again(
    machine: NspawnMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine._ended.clear()
    kills: list[int] = []

    def kill() -> None:
        kills.append(1)
        if len(kills) == 2:
            machine._ended.set()

    monkeypatch.setattr(machine, "_kill_processes", kill)
    machine.kill()
    assert (len(kills), machine.running) == (2, False)


def test_another_size_is_what_the_machine_reads(machine: NspawnMachine, tmp_path: Path) -> None:
    machine.resize(4 << 30)
    assert f"MemTotal:        {4 << 20} kB" in (tmp_path / "shared" / "meminfo").read_text()
    assert machine.spec.memory_bytes == 4 << 30
    assert nspawn._meminfo(1 << 30) != nspawn._meminfo(4 << 30)
