"""A machine as a systemd-nspawn container, started by a small shim that does what udev and a hypervisor would.

What such a machine can't do: set the clock, vm.* sysctls, huge pages; its root file system has no block device.
"""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import socket
import subprocess
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from localcloud.host import cgroups, mounts
from localcloud.machine.devices import Device, appear, disappear
from localcloud.machine.interface import MachineSpec, Ran, Size
from localcloud.machine.lifetime import Lifetime
from localcloud.net import network
from support.errors import Error
from support.waiting import wait_for

START_SECONDS = 30.0
# EC2 forces a stop after a few minutes; here it comes within what clients wait for at least (40 polls, one a second).
STOP_SECONDS = 25.0
# systemd's signals (man systemd): halt cleanly, reboot cleanly.
_POWER_OFF = signal.SIGRTMIN + 4
_REBOOT = signal.SIGRTMIN + 5
# systemd-nspawn's exit code when its machine asks to be started again (EXIT_FORCE_RESTART).
_REBOOTED = 133
_ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
    "USER": "root",
}
_SHIM = """#!/bin/sh
# Made by the local cloud: stands in for udev and the hypervisor, then becomes init.
mount --bind /run/localcloud/meminfo /proc/meminfo
# systemd-nspawn gives a machine with a ready-made network namespace the /sys of its own: this one is the machine's. A
# tmpfs with sysfs's directories in it, because the hypervisor's has to be there and nothing can be made in sysfs.
mkdir /run/.sys
mount -t sysfs sysfs /run/.sys
mount -t tmpfs -o mode=0755,nosuid,nodev,noexec sys /sys
for entry in /run/.sys/*; do
  mkdir "/sys/${{entry##*/}}"
  mount --bind "$entry" "/sys/${{entry##*/}}"
done
mkdir -p /sys/hypervisor
cp /run/localcloud/hypervisor-uuid /sys/hypervisor/uuid
umount /run/.sys
rmdir /run/.sys
mount -t cgroup2 cgroup2 /sys/fs/cgroup
# Read-only is how systemd tells that no udev will come. The network's own settings are the machine's to change.
mount -o remount,ro /sys
mount --bind /proc/sys/net /proc/sys/net
mount -o remount,bind,rw /proc/sys/net
{devices}for init in /usr/lib/systemd/systemd /sbin/init; do
  [ -x "$init" ] && exec "$init"
done
echo "no init in this image" >&2
exit 1
"""


class NspawnMachine:
    """machine.Machine by systemd-nspawn."""

    def __init__(self, spec: MachineSpec) -> None:
        self.spec = spec
        self._shared = spec.directory / "shared"
        self._console = spec.directory / "console.log"
        self._devices: dict[str, Device] = {}
        self._leader: int | None = None
        self._life = Lifetime(spec.name, self)
        self._shared.mkdir(parents=True, exist_ok=True)
        # cloud-init takes a machine for EC2 by a hypervisor's uuid that begins with "ec2" (containers have no DMI).
        (self._shared / "hypervisor-uuid").write_text(f"ec2{str(uuid.uuid4())[3:]}\n")
        (self._shared / "meminfo").write_text(_meminfo(spec.size.memory_bytes))

    @property
    def running(self) -> bool:
        """Whether its init runs, or will again: a reboot is no end."""
        return self._life.running

    def start(self, root: Path, devices: Sequence[Device], on_exit: Callable[[], None]) -> None:
        """Start it and return once its init runs. Raises `machine-failed`."""
        self._devices = {device.node: device for device in devices}
        self._life.start(root, on_exit)

    def stop(self) -> None:
        """Shut it down cleanly; kill it when that takes too long."""
        self._life.stop(lambda: self._signal(_POWER_OFF), STOP_SECONDS, 1)

    def kill(self) -> None:
        """Cut its power: shut its XFS file systems down without flushing their logs, then kill it.

        SIGKILL alone is no power cut: the host keeps the page cache, and with it what was never synced.
        """
        self._life.expect_end()
        if self._leader is not None:
            try:
                listed = Path(f"/proc/{self._leader}/mountinfo").read_text()
            except OSError:
                listed = ""  # it ended by itself in between
            for mount in cgroups.parse_mountinfo(listed):
                if mount.kind == "xfs" and mount.source.startswith("/dev/"):
                    target = f"/proc/{self._leader}/root{mount.point}"
                    subprocess.run(["xfs_io", "-x", "-c", "shutdown", target], check=False, capture_output=True)
        self._life.kill()

    def resize(self, size: Size) -> None:
        """Give it another size from its next start on."""
        self.spec = dataclasses.replace(self.spec, size=size)
        (self._shared / "meminfo").write_text(_meminfo(size.memory_bytes))

    def reboot(self) -> None:
        """Ask its init to reboot; systemd-nspawn ends with a code of its own then, and is started again."""
        self._signal(_REBOOT)

    def run(self, command: Sequence[str], *, input: str = "", timeout: float | None = None) -> Ran:
        """Run a command inside as root. Raises `machine-failed` when the machine does not run."""
        if self._leader is None or not self.running:
            raise Error(
                f"{self.spec.name} does not run", code="machine-failed", expected="a running machine", found="none"
            )
        child = subprocess.Popen(
            ["nsenter", "--target", str(self._leader), "--all", "--wd", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            env=_ENVIRONMENT,
            start_new_session=True,
        )
        timed_out = False
        try:
            stdout, stderr = child.communicate(input, timeout=timeout)
        except subprocess.TimeoutExpired:
            _kill_session(child.pid)
            stdout, stderr = child.communicate()
            timed_out = True
        return Ran(child.returncode, stdout, stderr, timed_out)

    def console(self) -> bytes:
        """Return what it has written to its console since it was made."""
        return self._console.read_bytes() if self._console.exists() else b""

    def attach(self, device: Device) -> None:
        """Make a device appear in the running machine. Raises `machine-failed`."""
        self._script(appear(device))
        self._devices[device.node] = device

    def detach(self, device: Device) -> None:
        """Make a device disappear from the running machine. Raises `machine-failed`."""
        self._script(disappear(device))
        self._devices.pop(device.node, None)

    def _script(self, script: str) -> None:
        ran = self.run(["/bin/sh", "-e"], input=script, timeout=20)
        if ran.returncode != 0:
            raise Error(
                f"the devices of {self.spec.name} can't be changed",
                code="machine-failed",
                expected="exit code 0",
                found=ran.stderr.strip(),
            )

    def _command(self, root: Path) -> list[str]:
        groups = mounts.machine_group(self.spec.name, self.spec.size.memory_bytes)
        nspawn = [
            "systemd-nspawn", "--quiet", f"--directory={root}", "--register=no", "--keep-unit",
            f"--machine={self.spec.name}", f"--hostname={self.spec.interface.hostname}",
            f"--network-namespace-path={self.spec.interface.namespace}",
            # Without a private network of systemd-nspawn's own making this capability would be taken away.
            # The other one is an instance's own too: with it root may read what another process has mapped.
            "--capability=CAP_NET_ADMIN,CAP_CHECKPOINT_RESTORE",
            # systemd's filters of addresses and devices are BPF programs, which its containers may not load by default.
            "--system-call-filter=bpf",
            # A console that can be written to (/dev/console exists) and that nobody types on.
            "--console=read-only", f"--kill-signal={_POWER_OFF}",
            "--link-journal=no", "--resolv-conf=off", "--timezone=off", "--notify-ready=no",
            f"--bind-ro={self._shared}:/run/localcloud",
            "/run/localcloud/init",
        ]  # fmt: skip
        return cgroups.entering(groups, nspawn)

    def _signal(self, number: int) -> None:
        leader = self._leader
        if leader is not None and self.running:
            try:
                os.kill(leader, number)
            except ProcessLookupError:
                pass  # it ended by itself in between, which its Lifetime sees

    def wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for systemd-nspawn's end; say whether the machine is to be started again."""
        return process.wait() == _REBOOTED

    def spawn(self, root: Path) -> subprocess.Popen[bytes]:
        """Start systemd-nspawn and return once the machine's init runs. Raises `machine-failed`."""
        shim = self._shared / "init"
        shim.write_text(_SHIM.format(devices="".join(map(appear, self._devices.values()))))
        shim.chmod(0o755)
        network.connect(self.spec.interface)
        address = Path(f"/run/notify-{self.spec.name}")
        address.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify, self._console.open("ab") as console:
            notify.bind(str(address))
            notify.settimeout(0.1)
            process = subprocess.Popen(
                self._command(root),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**_ENVIRONMENT, "NOTIFY_SOCKET": str(address), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                start_new_session=True,
            )
            wait_for(lambda: self._receive_leader(notify) or process.poll() is not None, START_SECONDS)
        if self._leader is None:
            self.kill_processes()
            process.wait()
            raise Error(
                f"{self.spec.name} did not start",
                code="machine-failed",
                expected=f"a running init within {START_SECONDS:.0f} s",
                found=self.console().decode(errors="replace")[-2000:].strip() or "nothing on its console",
            )
        return process

    def _receive_leader(self, notify: socket.socket) -> bool:
        """Receive a notification of systemd-nspawn's; say whether it was the leader's pid: there is one per boot."""
        try:
            message = notify.recv(4096).decode(errors="replace")
        except TimeoutError:
            return False
        if match := re.search(r"^X_NSPAWN_LEADER_PID=(\d+)$", message, re.MULTILINE):
            self._leader = int(match[1])
        return match is not None

    def clean_up(self) -> None:
        """Take away what the host's side of an ended machine leaves: its interface, its control groups."""
        self._leader = None
        # systemd-nspawn takes its machine with it, but the kernel may need a moment for that.
        self.kill_processes()
        network.disconnect(self.spec.interface)
        mounts.remove_machine_group(self.spec.name)

    def kill_processes(self) -> None:
        """Kill every process of the machine that there is now."""
        cgroups.kill_all([mounts.CGROUP / self.spec.name], patience=10)


def _kill_session(session: int) -> None:
    """Kill what a command in a machine has started: nsenter forks, so its own death would leave its child."""
    for status in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = status.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            try:
                os.kill(int(status.parent.name), signal.SIGKILL)
            except ProcessLookupError:
                pass  # it ended in between


def _meminfo(memory_bytes: int) -> str:
    """Return a /proc/meminfo of the instance type's size: a machine would else see the host's."""
    total = memory_bytes >> 10
    values = {"MemTotal": total, "MemFree": total * 8 // 10, "MemAvailable": total * 9 // 10, "Buffers": 0,
              "Cached": total // 10, "SwapCached": 0, "Active": total // 10, "Inactive": 0, "SwapTotal": 0,
              "SwapFree": 0, "Dirty": 0, "Writeback": 0, "Shmem": 0, "Slab": 0, "CommitLimit": total // 2,
              "Committed_AS": total // 10}  # fmt: skip
    lines = [f"{name + ':':<16}{value:>8} kB" for name, value in values.items()]
    huge_pages = ["HugePages_Total:       0", "HugePages_Free:        0", "Hugepagesize:       2048 kB"]
    return "\n".join([*lines, *huge_pages, ""])


def remove(spec: MachineSpec) -> None:
    """Delete a machine's directory, but for its console, which outlives it for a while as on EC2."""
    shutil.rmtree(spec.directory / "shared", ignore_errors=True)
