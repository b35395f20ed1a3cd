"""A machine by QEMU is started, rebooted and ended as its processes say, and its end is told once whatever they do."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from localcloud.bad_day import Weather
from localcloud.machine.devices import Device
from localcloud.machine.interface import MachineSpec, Ran, Size
from localcloud.machine.qemu import command
from localcloud.machine.qemu.machine import QemuMachine, remove
from localcloud.machine.qemu.plugs import Plugs
from localcloud.net.network import Interface
from support.errors import Error
from tests.support.errors import raises

SPEC_INTERFACE = Interface("10.213.7.10", "06:ec:00:00:00:01", "ip-10-213-7-10", Path("/run/netns/i-1"))


class Process:
    """QEMU, which ends when it may."""

    def __init__(self, code: int = 0) -> None:
        self.code = code
        self.may_end = threading.Event()

    def wait(self) -> int:
        assert self.may_end.wait(10)
        return self.code


class Monitor:
    """QEMU's monitor, which notes what it is asked; one that `refuses` a command has it fail."""

    def __init__(self, *, reboots: bool = False, refuses: str = "", lets_go: bool = True) -> None:
        self.reboots, self.refuses, self.lets_go = reboots, refuses, lets_go
        self.asked: list[str] = []

    def rebooted(self) -> bool:
        return self.reboots

    def execute(self, name: str, _arguments: Any = None) -> None:
        self.asked.append(name)
        if name == self.refuses:
            raise Error("no", code="machine-failed")

    def forget_deletion(self, _device: str) -> None:
        return

    def wait_for_deletion(self, _device: str, _seconds: float) -> bool:
        return self.lets_go

    def close(self) -> None:
        return


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> QemuMachine:
    made = QemuMachine(MachineSpec("i-1", tmp_path, SPEC_INTERFACE, Size(1 << 30, 2)), "tcg", Weather(tmp_path))
    # What is there of the host's own: control groups and the bridge.
    monkeypatch.setattr(made, "clean_up", lambda: None)
    return made


def begin(machine: QemuMachine, monkeypatch: pytest.MonkeyPatch, *runs: tuple[Process, Monitor]) -> threading.Event:
    """Start a machine whose processes are these, one after the other; return what is set at its end."""
    waiting, told = list(runs), threading.Event()

    def spawn(_root: Path) -> Any:
        process, monitor = waiting.pop(0)
        monkeypatch.setattr(machine, "_monitor", monitor)
        return process

    monkeypatch.setattr(machine, "spawn", spawn)
    machine.start(machine.spec.directory, [], told.set)
    return told


def test_a_shutdown_from_inside_is_told(machine: QemuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    told = begin(machine, monkeypatch, (process, Monitor()))
    assert machine.running
    process.may_end.set()
    assert told.wait(5)
    assert not machine.running


def test_a_killed_qemu_is_told_with_its_last_words(
    machine: QemuMachine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (machine.spec.directory / "qemu.log").write_text("qemu: out of memory\n")
    process = Process(-9)
    told = begin(machine, monkeypatch, (process, Monitor()))
    process.may_end.set()
    assert told.wait(5)
    assert "ended with -9: qemu: out of memory" in caplog.text


def test_a_reboot_is_another_process_and_no_end(machine: QemuMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = Process(), Process()
    told = begin(machine, monkeypatch, (first, Monitor(reboots=True)), (second, Monitor()))
    first.may_end.set()
    assert not told.wait(0.3)
    assert machine.running
    second.may_end.set()
    assert told.wait(5)


def test_a_machine_that_does_not_come_back_from_its_reboot_has_ended(
    machine: QemuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process()
    told = begin(machine, monkeypatch, (process, Monitor(reboots=True)))  # and no process after it
    process.may_end.set()
    assert told.wait(5)
    assert not machine.running


def test_a_stop_presses_the_power_button_and_is_no_end_that_nobody_asked_for(
    machine: QemuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, monitor = Process(), Monitor(reboots=True)
    told = begin(machine, monkeypatch, (process, monitor))
    threading.Timer(0.1, process.may_end.set).start()
    machine.stop()
    assert monitor.asked == ["system_powerdown"]
    assert (machine.running, told.is_set()) == (False, False)


def test_a_start_that_fails_leaves_a_machine_that_does_not_run(
    machine: QemuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_root: Path) -> Any:
        raise Error("it did not start", code="machine-failed")

    monkeypatch.setattr(machine, "spawn", fail)
    with raises("machine-failed"):
        machine.start(machine.spec.directory, [], lambda: None)
    assert not machine.running


def test_a_machine_that_has_not_said_hello_is_reset_where_it_is_to_reboot(
    machine: QemuMachine, monkeypatch: pytest.MonkeyPatch
) -> None:
    process, monitor = Process(), Monitor()
    begin(machine, monkeypatch, (process, monitor))
    machine.reboot()
    assert monitor.asked == ["system_reset"]
    process.may_end.set()


def test_nothing_runs_in_a_machine_that_is_off_and_nothing_is_plugged_into_it(machine: QemuMachine) -> None:
    device = Device("nvme1n1", "/dev/sdf", "vol-1", 7, 1)
    for act in (lambda: machine.run(["true"]), lambda: machine.attach(device), lambda: machine.detach(device)):
        with raises("machine-failed", match="does not run"):
            act()


def test_its_console_outlives_it(machine: QemuMachine) -> None:
    assert machine.console() == b""
    for name in ("console.log", "qemu.log"):
        (machine.spec.directory / name).write_text("a line\n")
    remove(machine.spec)
    assert [path.name for path in machine.spec.directory.iterdir()] == ["console.log"]
    assert machine.console() == b"a line\n"


def device(number: int) -> Device:
    return Device(f"nvme{number}n1", "/dev/sdf", f"vol-{number}", 7, number)


def test_a_port_that_was_left_is_taken_again_and_a_reboot_moves_them_up() -> None:
    plugs, monitor = Plugs("i-1", Path("/run/qemu/i-1")), Monitor()
    for number in range(3):
        plugs.plug(device(number), monitor, lambda *_: Ran(0, "", ""))  # type: ignore[arg-type]  # its stand-in
    plugs.unplug(device(1), monitor, lambda *_: Ran(0, "", ""))  # type: ignore[arg-type]
    assert plugs.begin_again() == [device(0), device(2)]


def test_a_machine_with_every_port_in_use_takes_no_further_volume() -> None:
    plugs = Plugs("i-1", Path("/run/qemu/i-1"))
    plugs.begin([device(number) for number in range(command.VOLUME_PORTS)])
    with raises("machine-failed", match="no place for another volume"):
        plugs.plug(device(99), Monitor(), lambda *_: None)  # type: ignore[arg-type]


def test_a_volume_that_qemu_refuses_leaves_no_half_of_itself() -> None:
    monitor = Monitor(refuses="device_add")
    with raises("machine-failed"):
        Plugs("i-1", Path("/run/qemu/i-1")).plug(device(1), monitor, lambda *_: None)  # type: ignore[arg-type]
    assert monitor.asked == ["blockdev-add", "device_add", "blockdev-del"]


def test_a_mounted_volume_is_not_pulled_out() -> None:
    monitor = Monitor()
    with raises("volume-failed", match="mounted at /data"):
        Plugs("i-1", Path("/run/qemu/i-1")).unplug(device(1), monitor, lambda *_: Ran(0, "/data\n", ""))  # type: ignore[arg-type]
    assert monitor.asked == []


def test_a_volume_that_the_machine_does_not_let_go_of_stays_whole() -> None:
    monitor = Monitor(lets_go=False)
    with raises("volume-failed", match="does not let go"):
        Plugs("i-1", Path("/run/qemu/i-1")).unplug(device(1), monitor, lambda *_: None)  # type: ignore[arg-type]
    assert monitor.asked == ["device_del"]
