"""Whether this host's KVM may carry machines: only after it has booted the very kernel that they will boot.

A /dev/kvm may open, make a virtual machine and run a few instructions, and yet hang in silence with a real kernel (it
was seen): so nothing less is believed than a line of that kernel's on its serial port.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from localcloud.machine.qemu import command
from support.digest import file_sha256
from support.errors import BadInput, HostLacks
from support.files import write_atomically
from support.progress import say

WAYS = ("auto", "kvm", "tcg")
SECONDS = 10.0
_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_DEVICE = Path("/dev/kvm")
_ANSWER = "kvm.json"
# What Linux prints first.
_FIRST_LINE = b"Linux version "


@dataclass(frozen=True)
class Seen:
    """What an attempt to boot by KVM has shown: whether a kernel's line came, and what was seen instead or of it."""

    works: bool
    what: str


def check(way: str) -> None:
    """Raise `accel-unknown` for what is none of WAYS."""
    if way not in WAYS:
        raise BadInput(
            f"there is no way to accelerate called {way}",
            code="accel-unknown",
            expected=" or ".join(WAYS),
            found=repr(way),
        )


def choose(
    way: str,
    kernel: Path,
    cache: Path,
    *,
    probe: Callable[[Path], Seen] | None = None,
    boot_id: Path = _BOOT_ID,
) -> str:
    """Return "kvm" or "tcg" for machines that boot `kernel`, and say why.

    `way` is what was asked for, one of WAYS. The answer is kept in the directory `cache` until this host or `kernel` is
    another one. Raises `accel-unknown`, and `kvm-fails` (HostLacks) where "kvm" was asked for in vain.
    """
    check(way)
    if way == "tcg":
        return "tcg"
    seen = _seen_before(kernel, cache, boot_id) or _look(kernel, cache, boot_id, probe or boot_by_kvm)
    if seen.works:
        say(f"machines run by KVM: {seen.what}")
        return "kvm"
    if way == "kvm":
        raise HostLacks(
            "this host's KVM can't boot the machines' kernel",
            code="kvm-fails",
            expected=f"a line of the kernel's on its serial port within {SECONDS:.0f} s",
            found=seen.what,
            fix="--accel tcg emulates the processor, many times slower",
        )
    say(f"machines are emulated, many times slower than by KVM: {seen.what}")
    return "tcg"


def boot_by_kvm(
    kernel: Path, *, device: Path = _DEVICE, program: str = command.PROGRAM, seconds: float = SECONDS
) -> Seen:
    """Boot a kernel by KVM with nothing else, and return what came of it within `seconds`."""
    if not os.access(device, os.R_OK | os.W_OK):
        return Seen(False, f"{device} is not there, or not for this user")
    arguments = [
        program, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "q35",
        *command.acceleration("kvm"), "-m", "256", "-no-reboot", "-kernel", str(kernel.absolute()),
        "-append", "console=ttyS0,115200n8 panic=-1", "-serial", "stdio",
    ]  # fmt: skip
    # In a directory that goes away: where KVM fails QEMU aborts, which may leave a core.
    with tempfile.TemporaryDirectory() as directory:
        try:
            child = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                cwd=directory,
            )
        except OSError as error:
            return Seen(False, f"{program}: {error.strerror}")
        try:
            return _listen(child, seconds)
        finally:
            child.kill()
            child.wait()
            if child.stdout:
                child.stdout.close()


def _listen(child: subprocess.Popen[bytes], seconds: float) -> Seen:
    assert child.stdout is not None
    output, end = b"", time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if not select.select([child.stdout], [], [], left)[0]:
            break
        received = os.read(child.stdout.fileno(), 65536)
        output += received
        if (start := output.find(_FIRST_LINE)) >= 0 and b"\n" in output[start:]:
            return Seen(True, output[start:].decode(errors="replace").splitlines()[0][:60])
        if not received:
            last = output.decode(errors="replace").strip().splitlines()[-1:]
            return Seen(False, f"QEMU ended: {' '.join(last) or 'without a word'}")
    return Seen(False, f"no line of the kernel's on its serial port within {seconds:.0f} s")


def _look(kernel: Path, cache: Path, boot_id: Path, probe: Callable[[Path], Seen]) -> Seen:
    seen = probe(kernel)
    cache.mkdir(parents=True, exist_ok=True)
    answer = {"boot": _read(boot_id), "kernel": file_sha256(kernel), "works": seen.works, "what": seen.what}
    write_atomically(cache / _ANSWER, json.dumps(answer))
    return seen


def _seen_before(kernel: Path, cache: Path, boot_id: Path) -> Seen | None:
    try:
        answer = json.loads((cache / _ANSWER).read_text())
        if (answer["boot"], answer["kernel"]) == (_read(boot_id), file_sha256(kernel)):
            return Seen(answer["works"] is True, f"{answer['what']} (seen since this host was started)")
    except (OSError, ValueError, KeyError, TypeError):
        pass  # never looked, or not by this version
    return None


def _read(path: Path) -> str:
    return path.read_text().strip()
