"""Running commands inside a tree, with mounts and processes that can't outlive them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from localcloud.host.contained import contained
from support.process import Completed, run

# Where a tree sees scripts/.
SCRIPTS = "/run/scripts"
_ENTER = Path(__file__).with_name("enter.sh")
_PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


def inside(
    root: Path, command: Sequence[str], *, binds: Mapping[Path, str] | None = None, input: str | None = None
) -> Completed:
    """Run `command` inside the tree `root`; `binds` maps host directories to paths below its /run or /tmp.

    Else /run (but for SCRIPTS) and /tmp are empty, and vanish afterwards. The network is the host's, for apt.
    Raises CommandFailed when it fails.
    """
    bound = {Path(__file__).with_name("scripts"): SCRIPTS, **(binds or {})}
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin",
        "HOME": "/root",
        "LC_ALL": "C.UTF-8",
        "DEBIAN_FRONTEND": "noninteractive",
        "BINDS": "".join(f"{source.resolve()}\t{target}\n" for source, target in bound.items()),
        **{name: os.environ[name] for name in _PROXIES if name in os.environ},
    }
    return run(contained(["/bin/sh", str(_ENTER), str(root.resolve()), *command]), env=environment, input=input)


def inside_script(
    root: Path, name: str, *arguments: str, binds: Mapping[Path, str] | None = None, input: str | None = None
) -> Completed:
    """Run scripts/`name` inside the tree `root`, as `inside` does. Raises CommandFailed when it fails."""
    return inside(root, ["/bin/sh", f"{SCRIPTS}/{name}", *arguments], binds=binds, input=input)
