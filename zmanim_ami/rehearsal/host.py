"""What a rehearsal needs of this host, what of it is missing, and how to get that."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from localcloud.host import binfmt
from localcloud.host import requirements as localcloud_host
from localcloud.machine.qemu.firmware import FIRMWARE
from localcloud.settings import NSPAWN, QEMU
from support.errors import HostLacks
from support.host import Requirement, search_path
from support.process import CommandFailed, run
from support.progress import say, step
from zmanim_ami.toolchain.environment import user_cache

_GIB = 1 << 30
# Program, the Debian package that brings it (the same name in Ubuntu), what it is for.
PROGRAMS = (
    *((program, package, "the local cloud's machines") for program, package in localcloud_host.PROGRAMS.items()),
    ("mmdebstrap", "mmdebstrap", "makes the base image"),
    ("git", "git", "the commit that an image is built from"),
    ("ssh", "openssh-client", "the machine tests log in with it"),
)
# The same, where machines are to have a kernel of their own.
QEMU_PROGRAMS = tuple(
    (program, package, "machines with a kernel of their own")
    for program, package in localcloud_host.QEMU_PROGRAMS.items()
)
DISK_IMAGE_PROGRAMS = tuple(
    (program, package, "machines of a disk image") for program, package in localcloud_host.DISK_IMAGE_PROGRAMS.items()
)
EMULATOR = (binfmt.INTERPRETER.name, "qemu-user-static", "runs the linux/arm64 programs that ship on this host")


def check(requirements: Iterable[Requirement]) -> None:
    """Raise `host-incomplete` when something is missing that a rehearsal needs."""
    missing = [requirement for requirement in requirements if requirement.needed and not requirement.ok]
    if missing:
        raise HostLacks(
            "this host lacks what a rehearsal needs",
            code="host-incomplete",
            expected="; ".join(f"{requirement.name} ({requirement.purpose})" for requirement in missing),
            found="; ".join(f"{requirement.name}: {requirement.found}" for requirement in missing),
            fix="; ".join(dict.fromkeys(requirement.fix for requirement in missing)),
        )


@dataclass(frozen=True)
class Host:
    """This host. `state` is where clouds keep their layers; the rest says where to look, and for how much.

    `machines` is the kind of machines that it is to carry.
    """

    state: Path
    machines: str = NSPAWN
    cache: Path = field(default_factory=user_cache)
    path: str = field(default_factory=search_path)
    keyring: Path = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
    firmware: Path = FIRMWARE["x86_64"].code
    uid: int = field(default_factory=os.geteuid)
    # Measured: the tools with Go's caches take 5.3 GB, the base with its repositories 2.5 GB, a cloud's layers and
    # volumes under 1 GB. What is in the cache already need not be free any more.
    needed_cold: int = 10 * _GIB
    needed_warm: int = 2 * _GIB
    memory: int = 3 * _GIB

    def requirements(self) -> list[Requirement]:
        """Look at privilege, programs, kernel, memory and disk."""
        programs = PROGRAMS if platform.machine() == "aarch64" else (*PROGRAMS, EMULATOR)
        programs += (*QEMU_PROGRAMS, *DISK_IMAGE_PROGRAMS) if self.machines == QEMU else ()
        keys = str(self.keyring) if self.keyring.exists() else None
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        loop = "present" if Path("/dev/loop-control").exists() else None
        return [
            _requirement("root", "namespaces, mounts and loop devices", self.uid == 0, f"uid {self.uid}", "use sudo"),
            *(
                _packaged(program, purpose, shutil.which(program, path=self.path), package)
                for program, package, purpose in programs
            ),
            *self._firmware(),
            _packaged("Debian's archive keys", "checks what the base image is made of", keys, "debian-archive-keyring"),
            _filesystem("overlay", "machines' root file systems"),
            _filesystem("xfs", "data volumes"),
            _requirement("kernel: loop devices", "volumes", loop is not None, loop or "missing", "modprobe loop"),
            _requirement("memory", "a builder and a machine", memory >= self.memory, _gib(memory), _gib(self.memory)),
            self._disk("the cache", self.cache),
            self._disk("the clouds", self.state),
        ]

    def missing_packages(self) -> list[str]:
        """Return the Debian packages to install, each once."""
        return list(dict.fromkeys(each.package for each in self.requirements() if each.package and not each.ok))

    def require(self, *, install: bool, confirm: bool) -> None:
        """Make sure that this host can rehearse, installing Debian packages when `install` allows it.

        With `confirm`, a person is asked once first. Raises HostLacks.
        """
        self._require_root()
        if install and (not confirm or _confirmed(self.missing_packages())):
            self.install_missing()
        check(self.requirements())

    def install_missing(self, *others: str) -> None:
        """Install the Debian packages that are missing, if any, and `others`. Raises HostLacks with apt-get's words."""
        packages = [*self.missing_packages(), *others]
        if not packages:
            return
        self._require_root()
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        with step(f"installing Debian packages: {' '.join(packages)}"):
            try:
                run(["apt-get", "update", "--quiet"], env=environment)
                run(["apt-get", "install", "--yes", "--quiet", "--no-install-recommends", *packages], env=environment)
            except CommandFailed as failure:
                raise HostLacks(
                    "apt-get could not install what a rehearsal needs",
                    expected=" ".join(packages),
                    found=failure.found,
                    fix="mend apt-get's complaint, or install them by hand and use --no-install",
                ) from failure

    def _require_root(self) -> None:
        if self.uid != 0:
            raise HostLacks(
                "a rehearsal boots machines, which needs root",
                code="not-root",
                expected="uid 0",
                found=f"uid {self.uid}",
                fix="run it with sudo",
            )

    def _firmware(self) -> list[Requirement]:
        if self.machines != QEMU:
            return []
        found = str(self.firmware) if self.firmware.exists() else None
        return [_packaged("firmware (UEFI)", "machines of a disk image", found, FIRMWARE["x86_64"].package)]

    def _disk(self, purpose: str, directory: Path) -> Requirement:
        needed = self.needed_warm if (self.cache / "tools").is_dir() else self.needed_cold
        existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
        free = shutil.disk_usage(existing).free
        fix = f"free {_gib(needed)}, or point XDG_CACHE_HOME (cache) elsewhere"
        found = f"{_gib(free)} free at {existing}"
        return _requirement(f"disk for {purpose}", "tools, base, layers and volumes", free >= needed, found, fix)


def _confirmed(packages: list[str]) -> bool:
    if not packages:
        return True
    say(f"This host lacks these Debian packages: {' '.join(packages)}")
    sys.stderr.write("Install them now with apt-get? [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"", "y", "yes"}


def _requirement(name: str, purpose: str, ok: bool, found: str, fix: str, *, package: str = "") -> Requirement:
    return Requirement(name, purpose, ok, found, "" if ok else fix, package=package)


def _packaged(name: str, purpose: str, found: str | None, package: str) -> Requirement:
    return _requirement(
        name, purpose, found is not None, found or "missing", f"apt-get install {package}", package=package
    )


def _filesystem(name: str, purpose: str) -> Requirement:
    if os.geteuid() == 0 and shutil.which("modprobe"):
        run(["modprobe", name], check=False)
    known = name in Path("/proc/filesystems").read_text().split()
    return _requirement(f"kernel: {name}", purpose, known, "present" if known else "missing", f"a kernel with {name}")


def _gib(size: int) -> str:
    return f"{size / _GIB:.1f} GiB"
