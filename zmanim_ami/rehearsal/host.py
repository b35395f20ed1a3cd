"""What a rehearsal needs of this host, what is there, and how to get what is missing."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from localcloud.host import binfmt
from localcloud.host import requirements as localcloud_host
from support.cache import user_cache
from support.errors import HostLacks
from support.process import CommandFailed, run
from support.progress import say, step
from zmanim_ami.gate.image import configuration

# Measured: the tools with Go's caches take 5.3 GB, the base with its repositories 2.5 GB, a cloud's layers and volumes
# under 1 GB. What is in the cache already need not be free any more.
NEEDED_BYTES_COLD = 10 << 30
NEEDED_BYTES_WARM = 2 << 30
NEEDED_MEMORY_BYTES = 3 << 30
_GIB = 1 << 30


@dataclass(frozen=True)
class Program:
    """A program, the Debian package that brings it (the same name in Ubuntu), and what it is for."""

    name: str
    package: str
    purpose: str


@dataclass(frozen=True)
class Finding:
    """One thing that was looked for on this host."""

    name: str
    purpose: str
    ok: bool
    found: str
    fix: str
    needed: bool = True  # for a rehearsal; what only the gate asks for is not


PROGRAMS = (
    *(
        Program(name, package, "the local cloud: machines, networks, volumes")
        for name, package in localcloud_host.PROGRAMS.items()
    ),
    Program("mmdebstrap", "mmdebstrap", "makes the base image"),
    Program("git", "git", "the commit that an image is built from"),
    Program("ssh", "openssh-client", "the machine tests log in with it"),
)
# Program, Debian packages, what the gate asks it for.
GATE = (
    ("systemd-analyze", "systemd", "gate: the units by systemd's own word"),
    ("gcc", "gcc libc6-dev", "gate: the API's tests under the race detector"),
    ("bash", "bash", "gate: every script is parsed"),
)
EMULATOR = Program(binfmt.INTERPRETER.name, "qemu-user-static", "runs the linux/arm64 programs that ship on this host")
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def _not_root() -> HostLacks:
    return HostLacks(
        "a rehearsal boots machines, which needs root",
        code="not-root",
        expected="uid 0",
        found=f"uid {os.geteuid()}",
        fix="run it with sudo",
    )


def incomplete(findings: Iterable[Finding]) -> HostLacks:
    """Return the error of a host that lacks something which a rehearsal needs."""
    missing = [finding for finding in findings if finding.needed and not finding.ok]
    return HostLacks(
        "this host lacks what a rehearsal needs",
        code="host-incomplete",
        expected="; ".join(f"{finding.name} ({finding.purpose})" for finding in missing),
        found="; ".join(f"{finding.name}: {finding.found}" for finding in missing),
        fix="; ".join(dict.fromkeys(finding.fix for finding in missing)),
    )


def needed_programs() -> tuple[Program, ...]:
    """Return the programs that a rehearsal needs on a host of this architecture."""
    return PROGRAMS if platform.machine() == "aarch64" else (*PROGRAMS, EMULATOR)


def missing_packages() -> list[str]:
    """Return the Debian packages to install, without repetition, in the order of the table above."""
    packages = [program.package for program in needed_programs() if shutil.which(program.name, path=_path()) is None]
    if not KEYRING.exists():
        packages.append("debian-archive-keyring")
    return list(dict.fromkeys(packages))


def findings(state: Path) -> list[Finding]:
    """Look at this host: privilege, programs, kernel, memory and disk. `state` is where clouds keep their layers."""
    result = [
        _finding("root", "namespaces, mounts and loop devices", os.geteuid() == 0, f"uid {os.geteuid()}", "use sudo")
    ]
    for program in needed_programs():
        where = shutil.which(program.name, path=_path())
        fix = f"apt-get install {program.package}"
        result.append(_finding(program.name, program.purpose, where is not None, where or "not there", fix))
    result.append(
        _finding(
            "Debian's archive keys",
            "checks what the base image is made of",
            KEYRING.exists(),
            str(KEYRING) if KEYRING.exists() else "not there",
            "apt-get install debian-archive-keyring",
        )
    )
    python = ".".join(str(part) for part in sys.version_info[:3])
    result.append(_finding("Python >= 3.11", "this program", sys.version_info >= (3, 11), python, "Debian 12 or newer"))
    result += [
        _filesystem("overlay", "machines' root file systems"),
        _filesystem("xfs", "data volumes"),
        _loop_devices(),
    ]
    result += [_memory(), _disk("the cache", user_cache()), _disk("the clouds", state)]
    return result


def gate_findings() -> list[Finding]:
    """Look for what only the gate asks for: without it `nox -s verify` looks at less, and says so (in CI it fails)."""
    found = []
    for name, package, purpose in GATE:
        where = shutil.which(name, path=_path())
        text = where or "not there: a gate run leaves that out"
        found.append(
            Finding(name, purpose, where is not None, text, "" if where else f"apt-get install {package}", False)
        )
    try:
        text, fix = configuration.postgresql_17(), ""
    except HostLacks as lacks:
        text, fix = "not there: the gate reads postgresql.conf alone", lacks.fix
    return [*found, Finding("PostgreSQL 17", "gate: postgresql.conf by its own reader", not fix, text, fix, False)]


def require(state: Path, *, install: bool, confirm: bool) -> None:
    """Make sure that this host can rehearse, installing Debian packages when `install` allows it.

    With `confirm`, a person is asked once first. Raises HostLacks.
    """
    if os.geteuid() != 0:
        raise _not_root()
    if install and (not confirm or _agreed(missing_packages())):
        install_missing()
    looked_at = findings(state)
    if not all(finding.ok for finding in looked_at):
        raise incomplete(looked_at)


def install_missing() -> None:
    """Install the Debian packages that are missing, if any. Raises HostLacks with apt-get's words."""
    packages = missing_packages()
    if not packages:
        return
    if os.geteuid() != 0:
        raise _not_root()
    _install(packages)


def _agreed(packages: list[str]) -> bool:
    if not packages:
        return True
    say(f"This host lacks these Debian packages: {' '.join(packages)}")
    sys.stderr.write("Install them now with apt-get? [Y/n] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"", "y", "yes"}


def _install(packages: list[str]) -> None:
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


def _finding(name: str, purpose: str, ok: bool, found: str, fix: str) -> Finding:
    return Finding(name, purpose, ok, found, "" if ok else fix)


def _path() -> str:
    # A plain user's PATH on Debian has no sbin, where losetup, ip and nft are.
    return os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])


def _filesystem(name: str, purpose: str) -> Finding:
    def known() -> bool:
        return any(line.split()[-1] == name for line in Path("/proc/filesystems").read_text().splitlines())

    if not known() and os.geteuid() == 0 and shutil.which("modprobe"):
        run(["modprobe", name], check=False)
    return _finding(f"kernel: {name}", purpose, known(), "there" if known() else "not there", f"a kernel with {name}")


def _loop_devices() -> Finding:
    there = Path("/dev/loop-control").exists()
    return _finding("kernel: loop devices", "volumes", there, "there" if there else "not there", "modprobe loop")


def _memory() -> Finding:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    ok = total >= NEEDED_MEMORY_BYTES
    return _finding(
        "memory", "a builder and a machine", ok, f"{total / _GIB:.1f} GiB", f"{NEEDED_MEMORY_BYTES // _GIB} GiB"
    )


def _disk(what: str, directory: Path) -> Finding:
    needed = NEEDED_BYTES_WARM if (user_cache() / "tools").is_dir() else NEEDED_BYTES_COLD
    existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found = f"{free / _GIB:.1f} GiB free at {existing}"
    fix = f"free {needed // _GIB} GiB, or point XDG_CACHE_HOME (cache) elsewhere"
    return _finding(f"disk for {what}", "tools, base, layers and volumes", free >= needed, found, fix)
