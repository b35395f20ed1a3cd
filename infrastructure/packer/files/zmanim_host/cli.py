"""The commands: `zmanim-host COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from zmanim_host import cloudwatch, cluster, environment, memory, migrations, readiness, redis_files, vault, volume
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
    "cloudwatch-agent": cloudwatch.command,
}
# For people, with what they name.
OPERATOR_COMMANDS: Mapping[str, Callable[[str], None]] = {
    "format-data-volume": volume.format_command,
}


def main(arguments: Sequence[str]) -> int:
    """Run one command; return 0, 1 for a HostFault, 2 for a command that there is not."""
    if len(arguments) == 2 and arguments[0] in OPERATOR_COMMANDS:
        return run_for_operator(*arguments)
    if len(arguments) != 1 or arguments[0] not in COMMANDS:
        print(usage(), file=sys.stderr)
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


def run_for_operator(name: str, argument: str) -> int:
    """Run a command that a person typed: a fault is told to them alone, and is no alarm of this machine's."""
    try:
        OPERATOR_COMMANDS[name](argument)
    except HostFault as fault:
        log(f"ERROR: {fault}")
        return 1
    return 0


def usage() -> str:
    """Return what commands there are."""
    every = [*COMMANDS.items(), *((f"{name} DEVICE", function) for name, function in OPERATOR_COMMANDS.items())]
    lines = [f"  {name:<25} {(function.__doc__ or '').splitlines()[0]}" for name, function in every]
    return "usage: zmanim-host COMMAND\n" + "\n".join(lines)
