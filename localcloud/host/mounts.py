"""What the cloud's own mount namespace looks like: private /run and /sys, one cgroup2 tree of its own, binfmt_misc.

Nothing here is seen by the host, and all of it goes with the namespace.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from localcloud.host import binfmt, cgroups
from support.process import run

CGROUP = Path("/sys/fs/cgroup")
MEMORY_V1 = Path("/run/cgroup-memory")
_BINFMT = Path("/run/binfmt_misc")
log = logging.getLogger(__name__)


def settle(group_name: str, architectures: set[str], memory_v1: bool) -> None:
    """Arrange the namespaces that this process was started in; it and process 1 enter a control group of their own."""
    # systemd-nspawn, ip-netns and dnsmasq keep their files below /run: on the host's they would stay behind.
    run(["mount", "-t", "tmpfs", "-o", "mode=0755,nosuid,nodev", "localcloud", "/run"])
    # A new sysfs, because it shows the network namespace it was mounted in; read-only, because systemd-nspawn takes a
    # writable one for a sign that udev will come and initialize the interfaces.
    run(["mount", "-t", "sysfs", "localcloud", "/sys"])
    run(["mount", "-t", "cgroup2", "localcloud", str(CGROUP)])
    run(["mount", "-o", "remount,ro,bind", "/sys"])
    if memory_v1:
        MEMORY_V1.mkdir()
        run(["mount", "-t", "cgroup", "-o", "memory", "localcloud", str(MEMORY_V1)])
    server = cgroups.leaf(CGROUP, "server")
    for process in (os.getpid(), os.getppid()):
        (server / "cgroup.procs").write_text(str(process))
    if binfmt.needed(architectures):
        _BINFMT.mkdir()
        run(["mount", "-t", "binfmt_misc", "localcloud", str(_BINFMT)])
        if not binfmt.register(_BINFMT, binfmt.entry_name(group_name)):
            log.info("the host runs arm64 programs by an entry of its own: used as it is")


def delegate_memory() -> None:
    """Let machines have memory limits through cgroup2, where this host's memory controller is there.

    To be called when the cloud's own group is empty of processes: control.py moves them into a leaf.
    """
    if "memory" in (CGROUP / "cgroup.controllers").read_text().split():
        (CGROUP / "cgroup.subtree_control").write_text("+memory")


def machine_group(name: str, memory_bytes: int) -> list[Path]:
    """Make the control groups of one machine, with its memory limit; return those that its processes must enter."""
    group = cgroups.leaf(CGROUP, name)
    if (group / "memory.max").exists():
        (group / "memory.max").write_text(str(memory_bytes))
        return [group]
    if MEMORY_V1.is_dir():
        limited = cgroups.leaf(MEMORY_V1, name)
        (limited / "memory.limit_in_bytes").write_text(str(memory_bytes))
        return [group, limited]
    log.warning("no memory controller on this host: %s has no memory limit", name)
    return [group]


def remove_machine_group(name: str) -> None:
    """Kill what is left of a machine and remove its control groups."""
    for group in cgroups.remove([CGROUP / name, MEMORY_V1 / name], patience=10):
        log.warning("control group %s is still in use", group)
