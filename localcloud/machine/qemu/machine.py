"""A machine as a process of QEMU's, with a kernel of its own.

A reboot ends the process and starts the next one, as systemd-nspawn's do: it has the size and the devices of then. What
such a machine can't do yet is in docs/rehearsal.md.
"""

from __future__ import annotations

import dataclasses
import logging
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from localcloud.bad_day import Weather
from localcloud.host import cgroups, mounts
from localcloud.machine.devices import Device
from localcloud.machine.interface import MachineSpec, Ran, Size
from localcloud.machine.lifetime import Lifetime
from localcloud.machine.qemu import command, firmware
from localcloud.machine.qemu.agent import Agent
from localcloud.machine.qemu.channel import connect
from localcloud.machine.qemu.disks import DISK, longest
from localcloud.machine.qemu.drives import Drives
from localcloud.machine.qemu.monitor import Monitor
from localcloud.machine.qemu.plugs import Plugs
from localcloud.net import network
from support.errors import Error
from support.waiting import wait_for

log = logging.getLogger(__name__)
# Until the kernel says something. Emulated beside other work it takes 3 s, not 1.
START_SECONDS = 60.0
# Emulated, a clean shutdown takes 6 s when nothing else is to be done, and several times that under load.
STOP_SECONDS = 90.0
# An init that has only just been started does not hear the power button yet.
_PRESS_SECONDS = 5.0
_AGENT_SECONDS = 120.0
# Sockets, in the cloud's own /run: gone with it.
_SOCKETS = Path("/run/qemu")
# What QEMU takes beside the machine's memory: translated code, buffers, its own; and the write caches of its disks.
_OWN_BYTES = 1024 << 20


class QemuMachine:
    """machine.Machine by QEMU; `accelerator` is "kvm" or "tcg". Of a bad day (`weather`) it takes its disks' order."""

    def __init__(self, spec: MachineSpec, accelerator: str, weather: Weather) -> None:
        self.spec = spec
        self._accelerator = accelerator
        self._weather = weather
        self._console = spec.directory / "console.log"
        self._log = spec.directory / "qemu.log"
        self._sockets = _SOCKETS / spec.name
        # cloud-init takes a machine for EC2 by a system UUID that begins with "ec2".
        self._uuid = f"ec2{str(uuid.uuid4())[3:]}"
        self._plugs = Plugs(spec.name, self._sockets)
        self._drives = Drives(self._sockets)
        self._groups: list[Path] = []
        self._monitor: Monitor | None = None
        self._agent: Agent | None = None
        self._life = Lifetime(spec.name, self)
        spec.directory.mkdir(parents=True, exist_ok=True)

    @property
    def running(self) -> bool:
        """Whether its QEMU runs, or will again: a reboot is no end."""
        return self._life.running

    def start(self, root: Path, devices: Sequence[Device], on_exit: Callable[[], None]) -> None:
        """Start it from disk and kernel in `root`; return once the kernel speaks. Raises `machine-failed`."""
        self._plugs.begin(devices)
        self._life.start(root, on_exit)

    def stop(self) -> None:
        """Press its power button; kill it when its shutdown takes too long."""
        self._life.stop(lambda: self._press("system_powerdown"), STOP_SECONDS, _PRESS_SECONDS)

    def kill(self) -> None:
        """Cut its power: what its kernel had not flushed is lost, since its disks' caches are killed with it."""
        self._life.kill()

    def resize(self, size: Size) -> None:
        """Give it another size from its next start on."""
        self.spec = dataclasses.replace(self.spec, size=size)

    def reboot(self) -> None:
        """Have its init reboot, where it answers already, else reset it."""
        if (agent := self._ready_agent()) is not None:
            try:
                if agent.run(["systemctl", "reboot"], timeout=30).returncode == 0:
                    return
            except Error:
                return  # it was faster than its answer
        self._press("system_reset")

    def run(self, command: Sequence[str], *, input: str = "", timeout: float | None = None) -> Ran:
        """Run a command inside as root. Raises `machine-failed` when its agent does not answer (yet)."""
        agent = self._agent
        if agent is None or not self.running:
            raise Error(
                f"{self.spec.name} does not run", code="machine-failed", expected="a running machine", found="none"
            )
        return agent.run(command, input=input, timeout=timeout)

    def console(self) -> bytes:
        """Return what it has written to its serial port since it was made."""
        return self._console.read_bytes() if self._console.exists() else b""

    def attach(self, device: Device) -> None:
        """Plug a device into the running machine. Raises `machine-failed`."""
        monitor = self._running_monitor()
        # Its name in the machine is told to the agent, which may still be on its way.
        wait_for(lambda: not self.running or self._ready_agent() is not None, _AGENT_SECONDS, 0.1)
        self._start_drive(device)
        try:
            self._plugs.plug(device, monitor, self._run_script)
        except BaseException:
            self._drives.kill(command.node_name(device))
            raise

    def detach(self, device: Device) -> None:
        """Unplug a device from the running machine. Raises `volume-failed` while it is mounted there."""
        self._plugs.unplug(device, self._running_monitor(), self._run_script)
        self._drives.end(command.node_name(device))

    def _start_drive(self, device: Device) -> None:
        self._drives.start(command.node_name(device), Path(f"/dev/loop{device.minor}"), self._groups, self._log)

    def _run_script(self, script: str, arguments: Sequence[str], timeout: float) -> Ran | None:
        agent = self._ready_agent()
        command_line = ["/bin/sh", "-c", script, "sh", *arguments]
        return None if agent is None else agent.run(command_line, timeout=timeout)

    def _ready_agent(self) -> Agent | None:
        agent = self._agent
        return agent if agent is not None and agent.ready.is_set() else None

    def _running_monitor(self) -> Monitor:
        if self._monitor is None or not self.running:
            raise Error(
                f"{self.spec.name} does not run", code="machine-failed", expected="a running machine", found="none"
            )
        return self._monitor

    def _press(self, button: str) -> None:
        monitor = self._monitor
        if monitor is not None and self.running:
            try:
                monitor.execute(button)
            except Error:
                pass  # it ended by itself in between, which its Lifetime sees

    def wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for QEMU's end; say whether the machine is to be started again."""
        code = process.wait()
        # QEMU has flushed them; what they still have of a machine that was reset they write out now.
        self._drives.end_all()
        if code:
            log.warning("the QEMU of %s ended with %d: %s", self.spec.name, code, self._last_words())
        return self._monitor is not None and self._monitor.rebooted()

    def spawn(self, root: Path) -> subprocess.Popen[bytes]:
        """Start QEMU and return once the machine's kernel speaks. Raises `machine-failed`."""
        network.connect_tap(self.spec.interface)
        self._sockets.mkdir(parents=True, exist_ok=True)
        self._groups = mounts.machine_group(self.spec.name, self.spec.size.memory_bytes + _OWN_BYTES)
        self._log.write_bytes(b"")
        devices = self._plugs.begin_again()
        disk = root / DISK
        self._drives.start(command.ROOT_NODE, disk, self._groups, self._log, size=longest(disk))
        for device in devices:
            self._start_drive(device)
        arguments = command.arguments(
            self.spec,
            root,
            devices,
            accelerator=self._accelerator,
            tap=network.outer_name(self.spec.interface),
            sockets=self._sockets,
            uuid=self._uuid,
            firmware=firmware.of(root),
            root_last=self._weather.today.root_disk_last,
        )
        before = self._console_bytes()
        with self._log.open("ab") as output:
            process = subprocess.Popen(
                cgroups.entering(self._groups, arguments),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.spec.directory,  # where a core of QEMU's would lie
                start_new_session=True,
            )

        def alive() -> bool:
            return process.poll() is None

        try:
            end = time.monotonic() + START_SECONDS
            monitor = connect(self._sockets / "monitor", alive, START_SECONDS)
            agent = connect(self._sockets / "agent", alive, START_SECONDS)
            if monitor is not None:
                self._monitor = Monitor(monitor)
            if agent is not None:
                self._agent = Agent(agent)
            wait_for(lambda: self._console_bytes() > before or not alive(), max(0, end - time.monotonic()))
            if not alive() or self._console_bytes() <= before:
                raise Error(
                    f"{self.spec.name} did not start",
                    code="machine-failed",
                    expected=f"a line of its kernel's within {START_SECONDS:.0f} s",
                    found=self._last_words() or "nothing on its console",
                )
        except BaseException:
            self.kill_processes()
            process.wait()
            raise
        return process

    def _console_bytes(self) -> int:
        return self._console.stat().st_size if self._console.exists() else 0

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:].strip() if self._log.exists() else ""

    def clean_up(self) -> None:
        """Take away what the host's side of an ended machine leaves: sockets, interface, control groups."""
        for connection in (self._monitor, self._agent):
            if connection is not None:
                connection.close()
        self._monitor = self._agent = None
        self.kill_processes()
        self._drives.end_all()
        network.disconnect(self.spec.interface)
        mounts.remove_machine_group(self.spec.name)
        shutil.rmtree(self._sockets, ignore_errors=True)

    def kill_processes(self) -> None:
        """Kill every process of the machine that there is now: QEMU and the write caches of its disks."""
        cgroups.kill_all([mounts.CGROUP / self.spec.name], patience=10)


def remove(spec: MachineSpec) -> None:
    """Delete what a machine's directory holds of QEMU's, but not its console, which outlives it for a while."""
    (spec.directory / "qemu.log").unlink(missing_ok=True)
