"""The block devices of a machine: names as on Nitro instances, links as Amazon's ec2-utils make them.

There is no udev in a machine on the host's kernel, so a shell script makes the nodes: before init at start (nspawn.py),
or through `Machine.run` when a volume comes later. Of machines with a kernel of their own only `Device` is used.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Device:
    """An attached volume as a machine sees it.

    `node` is a name in /dev (nvme1n1), `requested` the name that the attachment asked for (/dev/sdf), `volume_id` its
    volume, `major` and `minor` the numbers of the loop device behind it.
    """

    node: str
    requested: str
    volume_id: str
    major: int
    minor: int


def free_node(used: set[str]) -> str:
    """Return the lowest free NVMe name. nvme0n1 is the root volume's, which has no node here."""
    number = next(number for number in range(1, 100) if f"nvme{number}n1" not in used)
    return f"nvme{number}n1"


def links(device: Device) -> list[str]:
    """Return the links in /dev that point to the device, as udev's rules of ec2-utils would make them."""
    paths = [f"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_{device.volume_id.replace('-', '')}"]
    # A device name comes from an API call: only what udev would make a link of becomes one.
    if re.fullmatch(r"(/dev/)?(sd[a-z][0-9]*|xvd[a-z]{1,2}[0-9]*)", device.requested):
        paths.append("/dev/" + device.requested.removeprefix("/dev/"))
    return paths


def appear(device: Device) -> str:
    """Return the shell lines that make a device's node and links."""
    lines = [
        f"mknod -m 0660 /dev/{device.node} b {device.major} {device.minor}",
        f"chgrp disk /dev/{device.node}",
        "mkdir -p /dev/disk/by-id",
    ]
    lines += [f"ln -sfn /dev/{device.node} {link}" for link in links(device)]
    return "\n".join(lines) + "\n"


def disappear(device: Device) -> str:
    """Return the shell line that takes a device's node and links away."""
    return f"rm -f /dev/{device.node} {' '.join(links(device))}\n"
