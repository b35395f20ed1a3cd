"""Root file systems of other hosts, to try a fresh clone in: Debian's, from the mirror that the stand-in is made from.

What runs in one has mounts and processes of its own, and ends with the test: the kernel sees to it.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from localcloud.host import binfmt
from localcloud.host.contained import contained
from localcloud.machine import debian
from tests.support.machines.image import copy_work_tree
from tests.support.machines.lab import wait_for

CLONE = "/root/clone"
# How this machine reaches registries; nothing else of its environment is a fresh host's.
_NETWORK = (
    "http_proxy",
    "https_proxy",
    "no_proxy",
    "PIP_INDEX_URL",
    "PIP_DEFAULT_TIMEOUT",
    "GOPROXY",
    "GOSUMDB",
    debian.MIRROR_VARIABLE,
)
_CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"
# Mounts as a host has them; /run is empty, as after its boot.
_ENTER = """
set -eu
root=$1 emulate=$2
shift 2
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
if [ -n "$emulate" ]; then
  mount -t binfmt_misc none "$root/proc/sys/fs/binfmt_misc"  # the table goes with its last mount
  printf '%s' "$emulate" >"$root/proc/sys/fs/binfmt_misc/register"
else
  mount --rbind /sys "$root/sys"
fi
mount --rbind /dev "$root/dev"
mount -t tmpfs tmpfs "$root/run"
exec python3 -c "$PIVOT" "$root" "$@"
"""
# As on a host, / is a mount of its own, and its processes are in no chroot: in one the kernel makes no user namespace,
# and units' sandboxes have them. By this host's Python, for a fresh root has no umount.
_PIVOT = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
os.chdir(sys.argv[1])
if libc.pivot_root(b".", b".") or libc.umount2(b".", 2):
    raise OSError(ctypes.get_errno(), "the root can't be entered")
os.chdir("/")
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class HostRoot:
    """A tree with a fresh clone in CLONE; `emulate` is binfmt_misc's line for its programs, empty for this host's."""

    root: Path
    emulate: str = ""

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a command in the clone, as root with a home of its own; return what it said."""
        enter = contained(["sh", "-c", _ENTER, "sh", str(self.root), self.emulate, *_in_clone(command, environment)])
        with subprocess.Popen(
            _with_ids_of_its_own(enter) if self.emulate else enter,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
            env={**os.environ, "PIVOT": _PIVOT},
        ) as process:
            try:
                if self.emulate:
                    _give_every_id(process.pid)
                stdout, stderr = process.communicate("\n")
            except BaseException:
                process.kill()
                raise
        return subprocess.CompletedProcess(command, process.returncode, stdout, stderr)


def _with_ids_of_its_own(command: Sequence[str]) -> list[str]:
    # Linux 6.7 gives each user namespace a table of binfmt_misc of its own, which goes with it. Every id means itself.
    waiting = 'read -r _ && exec "$@"'
    return ["setpriv", "--pdeathsig", "KILL", "--", "unshare", "--user", "sh", "-c", waiting, "sh", *command]


def _give_every_id(pid: int) -> None:
    own, theirs = Path("/proc/self/ns/user"), Path(f"/proc/{pid}/ns/user")
    wait_for(lambda: theirs.readlink() != own.readlink(), what="a user namespace")
    for name in ("uid_map", "gid_map"):
        Path(f"/proc/{pid}/{name}").write_text("0 0 4294967295\n")


def _in_clone(command: Sequence[str], environment: Mapping[str, str]) -> list[str]:
    values = {
        **{name: os.environ[name] for name in _NETWORK if name in os.environ},
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "SSL_CERT_FILE": _CERTIFICATES,
        "PIP_CERT": _CERTIFICATES,
        **environment,
    }
    settings = [f"{name}={value}" for name, value in values.items()]
    return ["/usr/bin/env", "--ignore-environment", f"--chdir={CLONE}", *settings, *command]


def make(root: Path, *packages: str, architecture: str = "") -> HostRoot:
    """Make a Debian 13 in `root` with these packages and what is essential, and copy this work tree into it.

    Of another `architecture`, Debian's word, packages are unpacked and nothing of them has run: emulated that would
    take an hour.
    """
    mirror = os.environ.get(debian.MIRROR_VARIABLE)
    foreign = ["--variant=extract", f"--architectures={architecture}"] if architecture else ["--variant=apt"]
    subprocess.run(
        [
            *contained(["mmdebstrap", "--mode=root", "--format=directory", *foreign, "--skip=check/qemu"]),
            *("--dpkgopt=force-unsafe-io", '--aptopt=APT::Install-Recommends "false"'),
            f"--include={','.join(packages)}",
            *(debian.SUITE, str(root), *([mirror] if mirror else [])),
        ],
        check=True,
        capture_output=True,
    )
    for name in (_CERTIFICATES, "/etc/resolv.conf"):
        target = root / name.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        target.write_bytes(Path(name).read_bytes())
    copy_work_tree(root / CLONE.lstrip("/"))
    return HostRoot(root, binfmt.rule("arm64") if architecture else "")
