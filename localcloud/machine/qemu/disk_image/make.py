"""Making a base disk of a disk image: a copy with the local cloud's own files beside the image's.

The copy's root file system is mounted, by QEMU's storage daemon and a loop device, in mount and process namespaces that
end with it: a kill at any moment leaves nothing but files. The EFI partition is read by mtools and left as it is.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import localcloud
from localcloud.machine.qemu import base_disk
from localcloud.machine.qemu.disk_image import header, layout
from localcloud.machine.qemu.firmware import ARCHITECTURE
from support.errors import BadInput, Error
from support.process import CommandFailed, run

DISK = "disk.qcow2"
_SCRIPT = Path(__file__).with_name("put.sh")
_NAMESPACES = ("--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
# nouuid: a copy of the same image may be mounted elsewhere on this host.
_OPTIONS = {"xfs": "nouuid", "ext4": "errors=remount-ro"}


def make(image: Path, entry: Path, certificate: Path, *, emulator: Path | None = None) -> layout.Layout:
    """Make the base disk of a disk image in the directory `entry`, and return what is on it. Needs root.

    Machines trust the authority of `certificate`, a PEM file, and run programs for arm64 by `emulator`, a static
    qemu-aarch64, where they are for x86-64. Raises what header.check and layout.find raise, `image-not-bootable` also
    for a root file system without a kernel and the like, and `disk-failed` (among it that a disk is full).
    """
    size = header.check(image)
    disk = entry / DISK
    try:
        # Only the disk that is in it: no snapshots, nothing else that a header may hold.
        run(["qemu-img", "convert", "-f", "qcow2", "-O", "qcow2", str(image.absolute()), str(disk)])
        found = layout.find(disk, size)
        with tempfile.TemporaryDirectory(dir=entry) as directory:
            work = Path(directory)
            base_disk.lay_guest(work / "over", emulator if found.architecture == "x86_64" else None)
            lacks = _put(work, disk, found, certificate, entry / base_disk.KERNEL)
    except (CommandFailed, OSError) as error:
        raise Error(
            f"the disk of {image} can't be made",
            code="disk-failed",
            expected="a whole disk image, with room for a few files in its root file system",
            found=(error.output.strip() or error.found) if isinstance(error, CommandFailed) else str(error),
            fix="if there is no space left on this host, free some, or point XDG_CACHE_HOME elsewhere",
        ) from error
    if lacks:
        raise BadInput(
            f"the root file system of {image} can't boot as a machine image",
            code="image-not-bootable",
            expected="what Amazon's machine images have: a kernel, systemd, cloud-init and Python",
            found=f"no {', '.join(lacks)}",
            fix="take an image for KVM, such as Amazon Linux 2023's",
        )
    (entry / ARCHITECTURE).write_text(found.architecture)
    return found


def _put(work: Path, disk: Path, found: layout.Layout, certificate: Path, kernel: Path) -> list[str]:
    """Run inside.py where the root file system is mounted; return what that lacks. Raises CommandFailed."""
    node = {
        "driver": "qcow2",
        "node-name": "disk",
        "file": {"driver": "file", "filename": str(disk.absolute())},
    }
    options = [
        "loop",
        f"offset={found.root.offset}",
        f"sizelimit={found.root.size}",
        *("nodev", "nosuid", "noexec", _OPTIONS[found.file_system]),
    ]
    inside = [sys.executable, "-m", "localcloud.machine.qemu.disk_image.inside"]
    # The last word on the parent's death is KILL: unshare ignores the INT that support.process asks for.
    contained = ["setpriv", "--pdeathsig", "KILL", "--", "unshare", *_NAMESPACES, "--", "/bin/sh", str(_SCRIPT)]
    run(
        [
            *contained,
            json.dumps(node),
            ",".join(options),
            *inside,
            *("mounted", str(certificate.absolute()), "over", str(kernel.absolute()), "lacking.json"),
        ],
        cwd=work,
        env={**os.environ, "PYTHONPATH": str(Path(localcloud.__file__).parents[1])},
    )
    lacks: list[str] = json.loads((work / "lacking.json").read_text())
    return lacks
