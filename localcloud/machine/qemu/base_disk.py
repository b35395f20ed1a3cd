"""The disk of a base image: its tree as a file system in a partition, with the local cloud's own files beside it.

Made once per tree and kernel, and read-only from then on: the disks of instances stand on it (disks.py). The tree is
not written to: kernel modules, agent and udev rule come from a second tree that is laid over it for the copy.
"""

from __future__ import annotations

import shutil
import struct
import tempfile
from dataclasses import dataclass
from pathlib import Path

from localcloud.host import binfmt
from support.errors import Error
from support.process import CommandFailed, run

# What a directory with a base disk holds.
DISK, KERNEL = "disk.raw", "kernel"
_GUEST = Path(__file__).parent / "guest"
_MIB = 1 << 20
_SECTOR = 512
_START = _MIB
# The kernel finds a partition of an MBR by the disk's signature, without an initrd.
_SIGNATURE = 0x6C636C64
ROOT_DEVICE = f"PARTUUID={_SIGNATURE:08x}-01"
# Where each file of guest/ goes; nothing of it is below /etc, which is the image's.
PLACES = {
    "agent.py": "usr/lib/localcloud/agent.py",
    "ebs-name.sh": "usr/lib/localcloud/ebs-name.sh",
    "localcloud-agent.service": "usr/lib/systemd/system/localcloud-agent.service",
    "start-limits.sh": "usr/lib/systemd/system-generators/localcloud-start-limits",
    "70-localcloud-ebs.rules": "usr/lib/udev/rules.d/70-localcloud-ebs.rules",
}
# What runs programs of arm64 on a guest's own kernel, where the host's can't be asked, and what registers it there.
_EMULATOR = "usr/lib/localcloud/qemu-aarch64"
_REGISTERED = "usr/lib/binfmt.d/localcloud-aarch64.conf"
_WANTS = "usr/lib/systemd/system/sysinit.target.wants"
# Two trees as one, read-only, in a mount namespace that ends with this script; then the copy's command. Bound first,
# because overlay's options would need a path with a comma or colon escaped.
_MERGED = """
mount --bind "$1" under && mount -t overlay -o ro,lowerdir=over:under localcloud merged && shift && exec "$@"
"""


@dataclass(frozen=True)
class Kernel:
    """A kernel to boot: its image, and the directory of its modules, which is named after its release."""

    image: Path
    modules: Path


def make(tree: Path, kernel: Kernel, entry: Path, *, emulator: Path | None = None, size_gib: int = 8) -> None:
    """Make the base disk of `tree` with `kernel` in the directory `entry`.

    With `emulator`, a static qemu-aarch64 of the host's, machines run programs for arm64 by that. Raises
    `kernel-missing`, and `disk-failed` with mkfs's words (among them that the disk is full).
    """
    if not kernel.image.is_file() or not kernel.modules.is_dir():
        raise Error(
            "there is no kernel for machines with one of their own",
            code="kernel-missing",
            expected=f"{kernel.image} and {kernel.modules}",
            found="no such file or directory",
        )
    disk = entry / DISK
    try:
        with tempfile.TemporaryDirectory(dir=entry) as directory:
            work = Path(directory)
            lay_over(work / "over", kernel, emulator)
            (work / "under").mkdir()
            (work / "merged").mkdir()
            _make_file_system(tree, work, disk, size_gib)
        _write_partition_table(disk)
        shutil.copyfile(kernel.image, entry / KERNEL)
    except (CommandFailed, OSError) as error:
        raise Error(
            f"the disk of {tree} can't be made",
            code="disk-failed",
            expected="a file system with the tree in it",
            found=error.found if isinstance(error, CommandFailed) else str(error),
            fix="if there is no space left, free some, or point XDG_CACHE_HOME elsewhere",
        ) from error


def lay_over(over: Path, kernel: Kernel, emulator: Path | None = None) -> None:
    """Make the tree `over` of what the local cloud adds to a base's tree. Raises CommandFailed, OSError."""
    lay_guest(over, emulator)
    release = kernel.modules.name
    shutil.copytree(kernel.modules, over / "usr/lib/modules" / release, symlinks=True)
    # depmod knows /lib only; in the image that is a link to usr/lib, and the merged tree has it from there.
    (over / "lib").symlink_to("usr/lib")
    run(["depmod", "--basedir", str(over), release])
    (over / "lib").unlink()


def lay_guest(over: Path, emulator: Path | None = None) -> None:
    """Make the tree `over` of what the local cloud adds to an image that has a kernel. Raises OSError."""
    for name, place in PLACES.items():
        (over / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_GUEST / name, over / place)
        if place.partition("generators/")[2]:  # systemd runs it
            (over / place).chmod(0o755)
    if emulator is not None:
        shutil.copy(emulator, over / _EMULATOR)
        (over / _REGISTERED).parent.mkdir(parents=True)
        (over / _REGISTERED).write_text(f"{binfmt.rule('localcloud-aarch64', Path('/', _EMULATOR))}\n")
    (over / _WANTS).mkdir(parents=True)
    (over / _WANTS / "localcloud-agent.service").symlink_to("../localcloud-agent.service")


def _make_file_system(tree: Path, work: Path, disk: Path, size_gib: int) -> None:
    size = size_gib * 1024 * _MIB - _START
    # -m 0: no blocks are kept for root alone.
    mkfs = ["mkfs.ext4", "-q", "-F", "-d", "merged", "-L", "/", "-m", "0",
            "-E", f"offset={_START},lazy_itable_init=1,nodiscard", str(disk), f"{size >> 10}k"]  # fmt: skip
    contained = ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-c", _MERGED, "sh"]
    run([*contained, str(tree.resolve()), *mkfs], cwd=work)


def _write_partition_table(disk: Path) -> None:
    """Write an MBR with one Linux partition, from _START to the end."""
    with disk.open("r+b") as file:
        sectors = (file.seek(0, 2) - _START) // _SECTOR
        entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", _START // _SECTOR, sectors)
        file.seek(440)
        file.write(struct.pack("<IH", _SIGNATURE, 0) + entry + bytes(48) + b"\x55\xaa")
