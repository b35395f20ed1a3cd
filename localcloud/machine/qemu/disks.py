"""Images as disks that stand on one another: what layers.py does with overlays, done with qcow2's backing files.

A base image is a raw disk (base_disk.py), or a whole one with a boot loader of its own (disk_image/). An instance's
disk holds only what it has written, on its image's; creating an image from a stopped instance moves that disk away and
puts an empty one on top: a rename, no copy.
"""

from __future__ import annotations

import os
import struct
from pathlib import Path

from localcloud.machine.layers import Layers
from localcloud.machine.qemu import base_disk
from localcloud.machine.qemu.firmware import ARCHITECTURE
from support.errors import Error
from support.process import CommandFailed, run

DISK = "disk.qcow2"


class Disks(Layers):
    """Which disk each image and instance stands on, topmost first. A layer is a directory with a disk in it."""

    def create(self, instance_id: str, image_id: str) -> None:
        """Give a new instance an empty disk on top of an image's. Raises `layer-failed`."""
        super().create(instance_id, image_id)
        self._stack(instance_id)

    def mount(self, instance_id: str) -> Path:
        """Return the directory that an instance boots from: `disk.qcow2`, `kernel` and what firmware wants."""
        upper, _, root = self._parts(instance_id)
        base = self._layers / self.instances[instance_id][-1]
        links = {DISK: upper, base_disk.KERNEL: base, ARCHITECTURE: base}
        for name, directory in links.items():
            (root / name).unlink(missing_ok=True)
            if (directory / name).exists():
                (root / name).symlink_to(directory / name)
        return root

    def rotate(self, instance_id: str, image_id: str) -> None:
        """Make an image of an instance that does not run: its disk becomes the image's."""
        with self._lock:
            super().rotate(instance_id, image_id)
            self._stack(instance_id)

    def copy(self, instance_id: str, image_id: str) -> None:  # noqa: ARG002
        """Refuse to make an image of a running instance: what its kernel still holds is on no disk."""
        raise Error(
            f"{instance_id} has a kernel of its own and runs: no image can be made of it",
            code="layer-failed",
            expected="a stopped instance, or CreateImage without NoReboot",
            found="a running one",
        )

    def _stack(self, instance_id: str) -> None:
        upper = self._parts(instance_id)[0]
        below = self._layers / self.instances[instance_id][0]
        raw = (below / base_disk.DISK).exists()
        # As long as the disk below: a larger root volume is one on record only.
        backing = ["-b", os.fspath(below / (base_disk.DISK if raw else DISK)), "-F", "raw" if raw else "qcow2"]
        try:
            run(["qemu-img", "create", "-q", "-f", "qcow2", *backing, os.fspath(upper / DISK)])
        except CommandFailed as failure:
            raise Error(
                f"{instance_id} can't have a disk",
                code="layer-failed",
                expected="a disk on top of its image's",
                found=failure.found,
            ) from failure


def longest(disk: Path) -> int:
    """Return how long the file of an instance's disk may become, in bytes: more than enough for all that it can hold.

    Twice the size of the disk in it (docs/interop/qcow2 in QEMU's sources has where that stands), since clusters that a
    power cut has orphaned stay taken.
    """
    with disk.open("rb") as file:
        (size,) = struct.unpack(">24xQ", file.read(32))
    return int(size) * 2
