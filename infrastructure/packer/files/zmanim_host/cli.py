"""The commands: `zmanim-host COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from zmanim_host import cluster, environment, memory, migrations, readiness, redis_files, vault, volume
from zmanim_host.host import ERROR, FaultNotes, HostFault, log

COMMANDS: Mapping[str, Callable[[], None]] = {
    "data-volume": volume.command,
    "data-layout": cluster.command,
    "memory": memory.command,
    "environment": environment.command,
    "secrets": vault.command,
    "redis-check": redis_files.command,
    "migrate": migrations.command,
    "ready": readiness.command,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; return 0, 1 for a HostFault, 2 for a command that there is not."""
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        lines = [f"  {name:<12} {(function.__doc__ or '').splitlines()[0]}" for name, function in COMMANDS.items()]
        print("usage: zmanim-host COMMAND\n" + "\n".join(lines), file=sys.stderr)
        return 2
    name = arguments[0]
    notes = FaultNotes()
    try:
        COMMANDS[name]()
    except HostFault as fault:
        log(f"ERROR: {fault}", ERROR)
        notes.put(name, str(fault))
        return 1
    notes.clear(name)
    return 0
