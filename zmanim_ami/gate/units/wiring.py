"""The units together (DoD 4): each is started, in an order without cycles, from programs that are in the image.

What systemd-analyze can't know, because it stands in other files: the preset, install.tsv, the servers' configuration.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from zmanim_ami.gate.finding import Finding
from zmanim_ami.gate.graph import reachable
from zmanim_ami.gate.image.configuration import POSTGRESQL, REDIS
from zmanim_ami.pipeline.shipped.install import FILES, installed
from zmanim_ami.pipeline.shipped.server_settings import effective
from zmanim_ami.pipeline.shipped.unit_files import PRESET, Unit, enabled_units, units

VERSIONS = Path("infrastructure/packer/versions.json")
MOUNT = "data.mount"

# What units start that is not ours, and what brings it: a package or an artifact of the versions file; "": the base.
PROGRAMS: Mapping[str, str] = {
    "/bin/kill": "",
    "/usr/bin/sh": "",
    "/usr/bin/systemctl": "",
    "/usr/bin/postgres": "postgresql{major}-server",
    "/usr/bin/redis-server": "redis",
    "/usr/bin/aws": "awscli-2",
    "/usr/local/bin/restic": "restic",
    "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent": "amazon-cloudwatch-agent",
    "/opt/aws/amazon-cloudwatch-agent/bin/start-amazon-cloudwatch-agent": "amazon-cloudwatch-agent",
    "/opt/aws/amazon-cloudwatch-agent/bin/amazon-cloudwatch-agent-ctl": "amazon-cloudwatch-agent",
}
# What is started by another name than the one it is installed by.
_OURS_ELSEWHERE = {"/opt/zmanim/zmanim-api"}
# Scripts that root runs, and why: no other user could do what they lead to.
ROOTS = {
    "notify-failure.sh",  # reads the journal, and root's own secrets to take them out of what it sends
    "restore.sh",  # starts each part as another user (restic's, the sandbox's), and gives them their directories
    "check-health.sh",  # asks by curl; what it calls then restarts the API, or moves the link that root alone may move
}
# Commands that run with full privileges beside a unit's own user, and why.
PRIVILEGED = {
    "/opt/zmanim/zmanim-host store-stopped",  # asks systemd to start zmanim-recovery, which no other user may
    # A drill gives way to a backup: asked of systemd, once.
    "/usr/bin/systemctl --quiet stop backup-drill.service backup-proof.service",
}
_STARTS = ("Wants", "Requires", "BindsTo", "Requisite", "Upholds", "OnFailure", "OnSuccess")
_NEEDS = ("Requires", "BindsTo", "Requisite")
_SCRIPT = re.compile(r"/[\w/.-]+\.sh\b")
# The server's own unit, its configuration, and the setting that says where its data is.
_SERVERS = (("postgresql.service", POSTGRESQL, "data_directory"), ("redis.service", REDIS, "dir"))


def check(tree: Path) -> list[Finding]:
    """Return what is wrong with the units of the tree, taken together."""
    ours = units(tree)
    return [
        *_enabled(tree, ours),
        *_cycles(ours),
        *_programs(tree, ours),
        *_mounts(ours),
        *_writable(tree, ours),
        *_running(ours),
    ]


def _enabled(tree: Path, ours: list[Unit]) -> Iterator[Finding]:
    enabled = enabled_units(tree)
    by_name = {unit.name: unit for unit in ours}
    started = reachable(enabled, lambda name: _started_by(by_name[name]) if name in by_name else ())
    for unit in ours:
        if unit.has_install and unit.name not in enabled:
            yield Finding(str(unit.path), unit.line("WantedBy"), f"ships disabled: {PRESET.name} does not enable it")
        if unit.name not in started and not unit.has_install:
            yield Finding(str(unit.path), 0, "nothing that is enabled starts it")


def _started_by(unit: Unit) -> set[str]:
    names = {_template(name) for name in unit.words(*_STARTS)}
    if unit.path.suffix in {".timer", ".path", ".socket"}:
        names.add(unit.last("Unit") or f"{unit.path.stem}.service")
    return names


def _template(name: str) -> str:
    return re.sub(r"@.+\.", "@.", name)


def _cycles(ours: list[Unit]) -> Iterator[Finding]:
    """Yield the first ordering cycle; systemd breaks one by leaving a unit out, at random as it seems."""
    names = {unit.name for unit in ours}
    after: dict[str, set[str]] = {name: set() for name in names}
    for unit in ours:
        after[unit.name] |= set(unit.words("After")) & names
        for other in set(unit.words("Before")) & names:
            after[other].add(unit.name)
        # A target comes after all that it wants, unless either says otherwise.
        for target in set(unit.words("WantedBy", "RequiredBy")) & names:
            if target.endswith(".target") and unit.last("DefaultDependencies") != "no":
                after[target].add(unit.name)
    try:
        TopologicalSorter({name: sorted(after[name]) for name in sorted(after)}).prepare()
    except CycleError as error:
        cycle = error.args[1][::-1]
        path = next(unit.path for unit in ours if unit.name == cycle[0])
        yield Finding(str(path), 0, f"ordering cycle: {' after '.join(cycle)}")


def _programs(tree: Path, ours: list[Unit]) -> Iterator[Finding]:
    shipped = {each.destination for each in installed(tree)} | _OURS_ELSEWHERE
    versions = json.loads((tree / VERSIONS).read_text())
    brought = {*versions["packages"], *versions["artifacts"]}
    commands = host_commands(tree)
    for unit in ours:
        for each in (each for each in unit.directives if each.name.startswith("Exec")):
            command = each.value.lstrip("-@:")
            if command.lstrip("+") in PRIVILEGED:
                command = command.lstrip("+")
            words = command.split()
            program = words[0] if words else ""
            location = (str(unit.path), each.line)
            if program.startswith(("+", "!")):
                yield Finding(*location, f"{each.name}={program}: runs with full privileges, whatever User= says")
            elif program.startswith("/opt/zmanim/"):
                if program not in shipped:
                    yield Finding(*location, f"{program} is not in the image: install.tsv has no such file")
                elif program.endswith("/zmanim-host") and (len(words) < 2 or words[1] not in commands):
                    yield Finding(
                        *location, f"zmanim-host has no command {' '.join(words[1:2])!r} (zmanim_host/cli.py)"
                    )
            elif program not in PROGRAMS:
                yield Finding(
                    *location,
                    f"{program} is in no package that the gate knows (PROGRAMS in wiring.py)",
                )
            elif PROGRAMS[program] and PROGRAMS[program] not in brought:
                yield Finding(*location, f"{program} comes with {PROGRAMS[program]}, which versions.json does not have")


def host_commands(tree: Path) -> set[str]:
    """Return the commands of zmanim-host, as zmanim_host/cli.py lists them."""
    return set(
        re.findall(r'^    "([a-z-]+)": \w+\.\w+', (tree / FILES / "zmanim_host/cli.py").read_text(), re.MULTILINE)
    )


def _mounts(ours: list[Unit]) -> Iterator[Finding]:
    mounted = [unit.last("Where") for unit in ours if unit.path.suffix == ".mount"]
    for unit in ours:
        for each in unit.every("RequiresMountsFor"):
            for path in each.value.split():
                if not any(path == where or path.startswith(f"{where}/") for where in mounted):
                    words = f"RequiresMountsFor={path}: no mount unit in the tree mounts it"
                    yield Finding(str(unit.path), each.line, words)


def _writable(tree: Path, ours: list[Unit]) -> Iterator[Finding]:
    by_name = {unit.name: unit for unit in ours}
    for name, path, setting in _SERVERS:
        unit = by_name.get(name)
        values = effective(tree / path).get(setting)
        if unit and values and unit.last("ProtectSystem") == "strict":
            directory = values[-1].text
            if directory not in unit.words("ReadWritePaths"):
                words = f"ProtectSystem=strict, and ReadWritePaths= lacks {directory}, where its data is"
                yield Finding(str(unit.path), unit.line("ReadWritePaths"), words)
    for unit in ours:
        below = [path for path in unit.words("ReadWritePaths") if re.match(r"-?/data(/|$)", path)]
        if below and MOUNT not in needed(unit, by_name):
            words = f"writes {below[0]} and is not bound to {MOUNT}: it would start on the root disk"
            yield Finding(str(unit.path), unit.line("ReadWritePaths"), words)


def needed(unit: Unit, by_name: Mapping[str, Unit]) -> set[str]:
    """Return what `unit` can't run without, and what those can't."""
    return reachable(unit.words(*_NEEDS), lambda name: by_name[name].words(*_NEEDS) if name in by_name else ())


def _running(ours: list[Unit]) -> Iterator[Finding]:
    timed = {unit.last("Unit") or f"{unit.path.stem}.service" for unit in ours if unit.path.suffix == ".timer"}
    for unit in (unit for unit in ours if unit.path.suffix == ".service"):
        location = (str(unit.path), unit.line("ExecStart"))
        scripts = [
            script for each in unit.directives if each.name.startswith("Exec") for script in _SCRIPT.findall(each.value)
        ]
        as_root = not unit.last("User") and unit.last("DynamicUser") != "yes"
        if as_root and any(Path(script).name not in ROOTS for script in scripts):
            yield Finding(*location, f"runs {scripts[0]} as root: User= or DynamicUser=")
        if unit.last("Type") == "oneshot" and not unit.last("TimeoutStartSec") and unit.last("PrivateNetwork") != "yes":
            yield Finding(*location, "a oneshot without TimeoutStartSec= may hang for ever")
        # A notice does not notify about itself.
        if unit.name in timed and not unit.words("OnFailure") and not unit.name.startswith("backup-notify"):
            yield Finding(*location, "is started by a timer and tells nobody when it fails: OnFailure=")
