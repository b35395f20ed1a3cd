"""The commands: `zmanim-host COMMAND`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence

from zmanim_host import environment, filters, memory, notices, power_off, readiness, recovery
from zmanim_host.aws import cloudwatch
from zmanim_host.backup import restore, steps
from zmanim_host.host import ERROR, ErrorNotes, HostError, log
from zmanim_host.monitoring import serving, vitals
from zmanim_host.release import adopt, fetch, health, migrations
from zmanim_host.secrets import secret_files
from zmanim_host.storage import data_layout, database, redis_files, volume

COMMANDS: Mapping[str, Callable[[], None]] = {
    "data-volume": volume.command,
    "data-layout": data_layout.command,
    "memory": memory.command,
    "environment": environment.command,
    "secrets": secret_files.command,
    "recover": recovery.command,
    "recovering": recovery.recovering_command,
    "store-stopped": recovery.store_command,
    "redis-check": redis_files.command,
    "redis-damage": redis_files.damage_command,
    "database": database.command,
    "database-access": database.access_command,
    "release-fetch": fetch.command,
    "release-adopt": adopt.command,
    "release-health": health.command,
    "release-migration-failed": adopt.migration_failed_command,
    "restore-clean": restore.clean_command,
    "migrate": migrations.command,
    "filters": filters.command,
    "ready": readiness.command,
    "serving": serving.command,
    "metrics": vitals.command,
    "power-off": power_off.command,
    "cloudwatch-agent": cloudwatch.command,
}
# For people, with what they name.
OPERATOR_COMMANDS: Mapping[str, Callable[[str], None]] = {
    "format-data-volume": volume.format_command,
    "release-allow": adopt.allow_command,
}
# What each of them is given, as the usage says it.
NAMED = {"format-data-volume": "DEVICE", "release-allow": "BUNDLE"}
# With words of their own, for the scripts that are named like them.
SCRIPT_COMMANDS: Mapping[str, Callable[[Sequence[str]], None]] = {
    "backup": steps.command,
    "restore": restore.command,
    "notify": notices.command,
}


def main(
    arguments: Sequence[str],
    *,
    units: Mapping[str, Callable[[], None]] = COMMANDS,
    operators: Mapping[str, Callable[[str], None]] = OPERATOR_COMMANDS,
    scripts: Mapping[str, Callable[[Sequence[str]], None]] = SCRIPT_COMMANDS,
    notes: ErrorNotes | None = None,
) -> int:
    """Run one command; return 0, 1 when it fails, 2 for a command that there is not."""
    name, *words = arguments or [""]
    notes = notes or ErrorNotes()
    try:
        if name in units and not words:
            units[name]()
            notes.clear(name)
        elif name in operators and len(words) == 1:
            operators[name](words[0])
        elif name in scripts:
            scripts[name](words)
        else:
            print(usage(), file=sys.stderr)
            return 2
    except (HostError, OSError) as error:
        # An OSError names its file and its reason, such as a full volume.
        log(f"ERROR: {error}", ERROR if name in units else None)
        # An error of a person's or a script's command is shown to them alone: it is no alarm of this machine's.
        if name in units:
            notes.put(name, str(error))
        return 1
    return 0


def usage() -> str:
    """Return what commands there are."""
    every = [*COMMANDS.items(), *((f"{name} {NAMED[name]}", function) for name, function in OPERATOR_COMMANDS.items())]
    every += [(f"{name} …", function) for name, function in SCRIPT_COMMANDS.items()]
    lines = [f"  {name:<25} {(function.__doc__ or '').splitlines()[0]}" for name, function in every]
    return "usage: zmanim-host COMMAND\n" + "\n".join(lines)
