"""What the cloud's own mount namespace looks like: private /run and /sys, one cgroup2 tree of its own, binfmt_misc.

Nothing here is seen by the host, and all of it goes with the namespace.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

from localcloud.host import binfmt
from support.process import run

CGROUP = Path("/sys/fs/cgroup")
MEMORY_V1 = Path("/run/cgroup-memory")
_BINFMT = Path("/run/binfmt_misc")
log = logging.getLogger(__name__)


def _mount(*arguments: str) -> None:
    run(["mount", *arguments])


def settle(group_name: str, architectures: set[str], memory_v1: bool) -> None:
    """Arrange the namespaces that this process was started in; it and process 1 enter a control group of their own."""
    # systemd-nspawn, ip-netns and dnsmasq keep their files below /run: on the host's they would stay behind.
    _mount("-t", "tmpfs", "-o", "mode=0755,nosuid,nodev", "localcloud", "/run")
    # A new sysfs, because it shows the network namespace it was mounted in; read-only, because systemd-nspawn takes a
    # writable one for a sign that udev will come and initialize the interfaces.
    _mount("-t", "sysfs", "localcloud", "/sys")
    _mount("-t", "cgroup2", "localcloud", str(CGROUP))
    _mount("-o", "remount,ro,bind", "/sys")
    if memory_v1:
        MEMORY_V1.mkdir()
        _mount("-t", "cgroup", "-o", "memory", "localcloud", str(MEMORY_V1))
    _enter_leaf()
    if binfmt.needed(architectures):
        _BINFMT.mkdir()
        _mount("-t", "binfmt_misc", "localcloud", str(_BINFMT))
        if not binfmt.register(_BINFMT, binfmt.entry_name(group_name)):
            log.info("the host runs arm64 programs by an entry of its own: used as it is")


def _enter_leaf() -> None:
    leaf = CGROUP / "server"
    leaf.mkdir()
    for process in (os.getpid(), os.getppid()):
        (leaf / "cgroup.procs").write_text(str(process))


def delegate_memory() -> None:
    """Let machines have memory limits through cgroup2, where this host's memory controller is there.

    To be called when the cloud's own group is empty of processes (cgroups.spread_out).
    """
    if "memory" in (CGROUP / "cgroup.controllers").read_text().split():
        (CGROUP / "cgroup.subtree_control").write_text("+memory")


def machine_group(name: str, memory_bytes: int) -> list[Path]:
    """Make the control groups of one machine, with its memory limit; return those that its processes must enter."""
    group = CGROUP / name
    group.mkdir(exist_ok=True)
    found = [group]
    if (group / "memory.max").exists():
        (group / "memory.max").write_text(str(memory_bytes))
    elif MEMORY_V1.is_dir():
        limited = MEMORY_V1 / name
        limited.mkdir(exist_ok=True)
        (limited / "memory.limit_in_bytes").write_text(str(memory_bytes))
        found.append(limited)
    else:
        log.warning("no memory controller on this host: %s has no memory limit", name)
    return found


def remove_machine_group(name: str) -> None:
    """Remove a machine's control groups, once its processes have ended."""
    for parent in (CGROUP, MEMORY_V1):
        for directory, _, _ in os.walk(parent / name, topdown=False):
            try:
                Path(directory).rmdir()
            except OSError:
                log.warning("control group %s is still in use", directory)
