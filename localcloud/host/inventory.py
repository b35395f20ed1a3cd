"""Looking into a running cloud from the host: its machines, their consoles, a shell in one."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from localcloud.host import cgroups
from localcloud.settings import Cloud
from support.errors import BadInput


@dataclass(frozen=True)
class MachineInfo:
    """One instance: its state as the API shows it, the host's pid of its init (None when it does not run).

    `since` is when it was last started, in seconds since 1970.
    """

    instance_id: str
    state: str
    address: str
    image: str
    leader: int | None
    since: float


def machines(cloud: Cloud) -> list[MachineInfo]:
    """Return every instance that the cloud has had, in the order of their launches."""
    try:
        rows = json.loads((cloud.directory / "machines.json").read_text())
    except FileNotFoundError:
        return []
    group = cgroups.cloud_groups(cloud.directory)[0]
    return [
        MachineInfo(
            instance_id=row["instance_id"],
            state=row["state"],
            address=row["address"],
            image=row["image"],
            leader=_leader(group / row["instance_id"]),
            since=float(row["since"]),
        )
        for row in rows
    ]


def _leader(group: Path) -> int | None:
    """Return the pid of the init below a machine's control group: the one that is process 1 of its own namespace."""
    for pid in cgroups.members(group / "payload"):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except OSError:
            continue  # it ended in between
        numbers = next((line.split()[1:] for line in status.splitlines() if line.startswith("NSpid:")), [])
        if len(numbers) > 1 and numbers[-1] == "1":
            return pid
    return None


def console(cloud: Cloud, instance_id: str) -> str:
    """Return what an instance, running or gone, wrote to its console. Raises `unknown-machine`."""
    path = cloud.directory / "machines" / instance_id / "console.log"
    if "/" in instance_id or not path.parent.is_dir():
        raise _unknown(cloud, instance_id)
    return path.read_text(errors="replace") if path.exists() else ""


def shell_command(cloud: Cloud, instance_id: str) -> list[str]:
    """Return the command that gives a root shell inside a running machine, to be exec'ed. Raises `unknown-machine`."""
    leader = next((info.leader for info in machines(cloud) if info.instance_id == instance_id), None)
    if leader is None:
        raise _unknown(cloud, instance_id)
    return ["nsenter", "--target", str(leader), "--all", "--wd", "/bin/bash", "--login"]


def _unknown(cloud: Cloud, instance_id: str) -> BadInput:
    running = [info.instance_id for info in machines(cloud) if info.leader is not None]
    return BadInput(
        f"no machine {instance_id} runs in the local cloud {cloud.name}",
        code="unknown-machine",
        expected="one of: " + (", ".join(running) or "none is running"),
        found=repr(instance_id),
    )
