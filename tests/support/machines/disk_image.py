"""A disk image in the form of Amazon Linux 2023's for KVM, out of the rehearsal's stand-in.

As there: a qcow2 file with a GPT, an EFI partition of 10 MiB with a boot loader, and an XFS root file system that holds
kernel and initrd. Debian's GRUB and kernel stand for Amazon's; nothing of the local cloud is in it. Needs root.
"""

from __future__ import annotations

import lzma
import os
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcloud.host.contained import contained
from localcloud.machine import debian
from tests.support.disks.partition_table import BIOS, EFI, LINUX, SECTOR, Part, write_table

# What says in the running machine that its own initrd was there.
SIGN = "/run/initrd-of-the-image"
_EFI_SECTORS, _BIOS_SECTORS = 20480, 2048
_GRUB = """
set timeout=0
search --no-floppy --label / --set=root
linux /boot/{kernel} root=LABEL=/ rw console={console},115200n8
initrd /boot/initrd.img
boot
"""
_INIT = """#!/bin/busybox sh
/bin/busybox mkdir -p /proc /sys /dev /run /new
/bin/busybox mount -t proc proc /proc
/bin/busybox mount -t sysfs sysfs /sys
/bin/busybox mount -t devtmpfs devtmpfs /dev
/bin/busybox mount -t tmpfs -o mode=0755 tmpfs /run
for module in {modules}; do /bin/busybox insmod /"$module"; done
until root=$(/bin/busybox findfs LABEL=/); do /bin/busybox sleep 0.2; done
/bin/busybox mount -t xfs "$root" /new
echo "$root" >{sign}
for each in proc sys dev run; do /bin/busybox mount --move /$each /new/$each; done
exec /bin/busybox switch_root /new /usr/lib/systemd/systemd
"""
# The tree and what is laid over it, copied into the partition's file system.
_FILL = """
set -eu
mount --bind "$1" under
mount -t overlay -o ro,lowerdir=over:under overlay merged
mkfs.xfs -q -L / root.img
mount -o loop root.img mounted
cp --archive merged/. mounted/
umount mounted
"""


@dataclass(frozen=True)
class Machine:
    """What Debian has for a kind of machine: its name for it, a kernel, a boot loader (a file of a package), a console.

    `name` is what firmware calls the boot loader.
    """

    architecture: str
    kernel: str
    package: str
    loader: str
    name: str
    console: str


X86_64 = Machine(
    "amd64",
    "linux-image-cloud-amd64",
    "grub-efi-amd64-bin",
    "usr/lib/grub/x86_64-efi/monolithic/grubx64.efi",
    "BOOTX64.EFI",
    "ttyS0",
)
ARM64 = Machine(
    "arm64",
    "linux-image-cloud-arm64",
    "grub-efi-arm64-bin",
    "usr/lib/grub/arm64-efi/monolithic/grubaa64.efi",
    "BOOTAA64.EFI",
    "ttyAMA0",
)


def make(tree: Path, directory: Path, machine: Machine = X86_64, *, size_gib: int = 4) -> Path:
    """Make the image of a root file system tree, which is only read, in `directory`, and return its file."""
    work = directory / "work"
    for name in ("under", "over", "merged", "mounted"):
        (work / name).mkdir(parents=True)
    unpacked = _unpacked(machine, work / "debian")
    image = _lay_kernel(work / "over", unpacked)
    last = (size_gib << 30) // SECTOR - 34
    esp = Part(128, EFI, 2048, 2048 + _EFI_SECTORS - 1)
    bios = Part(127, BIOS, esp.last + 1, esp.last + _BIOS_SECTORS)
    root = Part(1, LINUX, bios.last + 1, last)
    _truncate(work / "root.img", (root.last + 1 - root.first) * SECTOR)
    _run(contained(["/bin/sh", "-c", _FILL, "sh", str(tree.resolve())]), work)
    _make_esp(work, unpacked, machine, image)
    disk = work / "disk.raw"
    _truncate(disk, size_gib << 30)
    with disk.open("r+b") as file:
        write_table(file.fileno(), size_gib << 30, [root, bios, esp])
    for part, content in ((root, "root.img"), (esp, "esp.img")):
        # Only what is written of it, as it was.
        _run(["dd", f"if={content}", "of=disk.raw", "bs=1M", "oflag=seek_bytes", f"seek={part.first * SECTOR}",
              "conv=sparse,notrunc", "status=none"], work)  # fmt: skip
    path = directory / "image.qcow2"
    _run(["qemu-img", "convert", "-O", "qcow2", "disk.raw", str(path.resolve())], work)
    shutil.rmtree(work)
    return path


def _unpacked(machine: Machine, target: Path) -> Path:
    """Unpack kernel, boot loader and a shell for the initrd; nothing of it runs."""
    mirror = os.environ.get(debian.MIRROR_VARIABLE)
    packages = f"{machine.kernel},{machine.package},busybox-static"
    _run(contained(["mmdebstrap", "--mode=root", "--variant=extract", "--format=directory", "--skip=check/qemu",
                    f"--architectures={machine.architecture}", '--aptopt=APT::Install-Recommends "false"',
                    f"--include={packages}", debian.SUITE, str(target), *([mirror] if mirror else [])]),
         Path())  # fmt: skip
    return target


def _lay_kernel(over: Path, unpacked: Path) -> str:
    """Put kernel, modules and an initrd where a distribution has them; return the kernel's name."""
    (fetched,) = (unpacked / "usr/lib/modules").iterdir()
    release = fetched.name
    modules = over / "usr/lib/modules" / release
    shutil.copytree(fetched, modules, symlinks=True)
    (over / "lib").symlink_to("usr/lib")
    _run(["depmod", "--basedir", str(over), release], Path())
    (over / "lib").unlink()
    (over / "boot").mkdir()
    shutil.copyfile(unpacked / f"boot/vmlinuz-{release}", over / f"boot/vmlinuz-{release}")
    needed = _with_what_it_needs(modules, "xfs")
    contents = {Path(name).name.removesuffix(".xz"): _module(modules / name) for name in needed}
    init = _INIT.format(modules=" ".join(contents), sign=SIGN).encode()
    files = [("init", 0o755, init), ("bin/busybox", 0o755, (unpacked / "usr/bin/busybox").read_bytes())]
    files += [(name, 0o644, content) for name, content in contents.items()]
    (over / "boot/initrd.img").write_bytes(_archive(["bin"], files))
    return f"vmlinuz-{release}"


def _with_what_it_needs(modules: Path, name: str) -> list[str]:
    """Return the files of a module and of those that it needs, in the order in which they go in."""
    lines = dict(line.split(":", 1) for line in (modules / "modules.dep").read_text().splitlines())
    (own,) = (path for path in lines if Path(path).name.partition(".")[0] == name)
    return [*reversed(lines[own].split()), own]


def _module(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()


def _archive(directories: Iterable[str], files: Iterable[tuple[str, int, bytes]]) -> bytes:
    """Return a cpio archive ("newc") as the kernel unpacks it."""
    entries = [(name, 0o40755, b"") for name in directories]
    entries += [(name, 0o100000 | mode, content) for name, mode, content in files]
    archive = b""
    for number, (name, mode, content) in enumerate([*entries, ("TRAILER!!!", 0, b"")], 1):
        values = [number, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0]
        archive += _padded(b"070701" + b"".join(b"%08x" % value for value in values) + name.encode() + b"\0")
        archive += _padded(content)
    return archive


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % 4)


def _make_esp(work: Path, unpacked: Path, machine: Machine, image: str) -> None:
    _truncate(work / "esp.img", _EFI_SECTORS * SECTOR)
    (work / "grub.cfg").write_text(_GRUB.format(kernel=image, console=machine.console))
    _run(["mformat", "-i", "esp.img", "-T", str(_EFI_SECTORS), "-h", "16", "-s", "63", "::"], work)
    _run(["mmd", "-i", "esp.img", "::/EFI", "::/EFI/BOOT", "::/EFI/debian"], work)
    loader = (unpacked / machine.loader).resolve()
    _run(["mcopy", "-i", "esp.img", str(loader), f"::/EFI/BOOT/{machine.name}"], work)
    _run(["mcopy", "-i", "esp.img", "grub.cfg", "::/EFI/debian/grub.cfg"], work)


def _truncate(path: Path, size: int) -> None:
    path.touch()
    os.truncate(path, size)


def _run(command: Sequence[str], cwd: Path) -> None:
    subprocess.run(command, cwd=cwd, check=True, capture_output=True)
