"""Running linux/arm64 programs on other hosts: one binfmt_misc entry, named for the cloud.

binfmt_misc is one table for the whole host. An entry that somebody else made for aarch64 is used and left alone; else
the cloud registers Debian's qemu-user-static under its own name, with flag F (the kernel keeps the interpreter open, so
machines need no copy of it). The table is only ever mounted in private mount namespaces, never on the host.
"""

from __future__ import annotations

import platform
from pathlib import Path

from support.process import run

INTERPRETER = Path("/usr/bin/qemu-aarch64-static")
# An ELF header: 64 bits, little endian, EXEC or DYN, machine 183 (AArch64). As in QEMU's scripts/qemu-binfmt-conf.sh.
_MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
_MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"
_MAGIC_HEX = _MAGIC.replace(r"\x", "").replace("ELF", "454c46")


def entry_name(group: str) -> str:
    """Name the entry of the cloud with this control group name (unique on the host)."""
    return f"{group}-aarch64"


def needed(architectures: set[str]) -> bool:
    """Say whether machines of these architectures hold programs that this host's processor can't run."""
    return "arm64" in architectures and platform.machine() not in {"aarch64", "arm64"}


def rule(name: str, interpreter: Path = INTERPRETER) -> str:
    """Return what registers arm64 under `name` when it is written to a table's `register`."""
    return f":{name}:M::{_MAGIC}:{_MASK}:{interpreter}:F"


def register(mount_point: Path, name: str) -> bool:
    """Register arm64 under `name`, unless the host has an entry of its own; say whether it was done.

    `mount_point` is where binfmt_misc is mounted in this mount namespace.
    """
    for entry in mount_point.iterdir():
        if entry.name in {"register", "status"} or entry.name.startswith("localcloud-"):
            continue
        text = entry.read_text()
        if text.startswith("enabled") and f"magic {_MAGIC_HEX}" in text:
            return False
    if (mount_point / name).exists():
        (mount_point / name).write_text("-1")
    (mount_point / "register").write_text(rule(name))
    return True


def unregister(name: str) -> None:
    """Take the entry away if it is there. The table is mounted for that in a mount namespace that ends at once."""
    script = (
        'dir=$(mktemp -d) && trap \'rmdir "$dir"\' EXIT && mount -t binfmt_misc none "$dir" || exit 0; '
        'if [ -e "$dir/$1" ]; then echo -1 >"$dir/$1"; fi; umount "$dir"'
    )
    run(["unshare", "--mount", "/bin/sh", "-c", script, "sh", name], check=False)
