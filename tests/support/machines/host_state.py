"""What of this host a cloud touches: to be the same after it as before."""

from __future__ import annotations

import subprocess
from pathlib import Path

from localcloud.host import cgroups
from localcloud.settings import link_name


def _lines(*command: str) -> set[str]:
    return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())


def _commands() -> set[str]:
    result = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            result.add(f"{path.parent.name} {path.read_bytes().replace(bytes(1), b' ').decode(errors='replace')}")
        except OSError:
            continue
    return result


def _binfmt() -> set[str]:
    script = "d=$(mktemp -d); mount -t binfmt_misc none $d; ls $d; umount $d; rmdir $d"
    return _lines("unshare", "--mount", "sh", "-c", script)


def host_state(directory: Path) -> dict[str, set[str]]:
    """Return everything of the host that a cloud with that state directory touches.

    Other clouds may come and go meanwhile: what is named for one counts only when it is named for this one.
    """
    hierarchies = cgroups.host_hierarchies()
    tops = [top for top in (hierarchies.unified, hierarchies.memory) if top]
    link, group = link_name(directory), cgroups.group_name(directory)
    return {
        "mounts": {line for line in Path("/proc/mounts").read_text().splitlines() if "mmdebstrap" not in line},
        "loop devices": {line for line in _lines("losetup", "--all") if str(directory) in line},
        "links": {line for line in _lines("ip", "-oneline", "link") if link[2:] in line},
        "rules": {line for line in _lines("nft", "list", "tables") if link[2:] in line},
        "routes": {line for line in _lines("ip", "route", "show", "table", "all") if link in line},
        "network namespaces": {str(Path("/run/netns").exists())},
        "control groups": {str(top) for top in tops if (top / group).exists()},
        "processes": {line for line in _commands() if str(directory) in line},
        "binfmt": {name for name in _binfmt() if not name.startswith("localcloud-") or group in name},
        "run": {path.name for path in Path("/run").iterdir()},
    }


def difference(before: dict[str, set[str]], directory: Path) -> dict[str, list[str]]:
    """Return what has come or gone since `before`, a host_state."""
    after = host_state(directory)
    return {what: sorted(after[what] ^ before[what]) for what in before if after[what] != before[what]}
