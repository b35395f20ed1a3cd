"""What a rehearsal proved, as a file for machines and a table for people."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from localcloud.net.egress import Connection
from zmanim_ami.pipeline.programs import SHIPPED
from zmanim_ami.rehearsal.limits import Relaxed
from zmanim_ami.rehearsal.versions import Difference

NOT_SHIPPED = f"not the shipped architecture, which is {SHIPPED}"


@dataclass(frozen=True)
class Step:
    """One step: the name of the task it runs (or of the preparation it is), its duration in seconds, its success.

    `calls` is how often it called AWS, Packer's part included; None of what is no task.
    """

    name: str
    seconds: float
    ok: bool
    calls: int | None = None


@dataclass(frozen=True)
class Fetched:
    """What went outside by one name: connections, bytes received, and how those ended that did not end well."""

    name: str
    connections: int
    received: int
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Machines:
    """What the machines were: `kind` as in settings, `accelerator` "kvm" or "tcg", empty on the host's own kernel."""

    kind: str
    accelerator: str = ""

    def __str__(self) -> str:
        how = {"": "on this host's kernel", "kvm": "by KVM", "tcg": "emulated, which is many times slower"}
        return f"{self.kind}, {how[self.accelerator]}"


@dataclass(frozen=True)
class Result:
    """Everything `result.json` says; fields that no step has filled yet are empty.

    `published` maps SSM parameter names to the values that were read back, `parameter_versions` to their versions.
    `boot` counts seconds from RunInstances: `running_seconds` until the instance ran, `healthy_seconds` until it said
    that it is ready. `tree_digest` names what the image was made from; `sources` all that it was made by, so that a
    tree can be told from the one that was rehearsed without building anything. `base` is the archive that machines
    started from, {"file", "sha256"}; None for the stand-in. `fetched` is what machines asked for outside; None where
    they had no route out. `bad_day` is the seed of the bad day it was, and how often what went wrong; None on others.
    `relaxed` are the limits that were longer than the settings say. `programs` is what the API and restic were built
    for, as uname names it.
    """

    version: str
    ok: bool = False
    ami_id: str = ""
    source_ami: str = ""
    tree_digest: str = ""
    sources: str = ""
    base: Mapping[str, str] | None = None
    machines: Machines | None = None
    relaxed: tuple[Relaxed, ...] = ()
    programs: str = ""
    published: Mapping[str, str] | None = None
    parameter_versions: Mapping[str, int] | None = None
    health: Mapping[str, Any] | None = None
    boot: Mapping[str, float] | None = None
    steps: tuple[Step, ...] = ()
    differences: tuple[Difference, ...] = ()
    fetched: tuple[Fetched, ...] | None = None
    bad_day: Mapping[str, int] | None = None
    error: str = ""

    def as_json(self) -> str:
        """Return the text of `result.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"


def faults(seed: int, journal: Path) -> Mapping[str, int]:
    """Return the seed of a bad day, and of the journal's calls how many were refused by each code, and lost."""
    calls = [json.loads(line) for line in journal.read_text().splitlines()]
    counts = Counter("lost answers" if call.get("lost") else call["error"] for call in calls)
    return {"seed": seed, **{code: number for code, number in sorted(counts.items()) if code}}


def calls(journal: Path) -> int:
    """Return how many calls of a local cloud's journal came from this host: those of its machines are not counted."""
    return sum(json.loads(line)["source"] == "host" for line in journal.read_text().splitlines())


def by_name(connections: Iterable[Connection]) -> tuple[Fetched, ...]:
    """Add connections up by the name that they asked for, in alphabetical order; "" is who named nobody."""
    grouped: dict[str, list[Connection]] = {}
    for connection in connections:
        grouped.setdefault(connection.name.lower().removesuffix("."), []).append(connection)
    return tuple(
        Fetched(
            name=name,
            connections=len(group),
            received=sum(connection.received for connection in group),
            problems=tuple(dict.fromkeys(connection.ended for connection in group if connection.ended != "closed")),
        )
        for name, group in sorted(grouped.items())
    )


def show(result: Result, console: Console) -> None:
    """Print what was done, how long it took and what came of it."""
    steps = [
        (each.name, f"{each.seconds:.1f}", _count(each.calls), "done" if each.ok else "failed") for each in result.steps
    ]
    total = ("in all", f"{sum(step.seconds for step in result.steps):.1f}", "", "")
    console.print(_table(f"rehearsal of {result.version}", ("step", "seconds", "calls to AWS", ""), [*steps, total]))
    versions = result.parameter_versions or {}
    facts = {
        "AMI": result.ami_id or "none",
        "base": f"{result.base['file']} (sha256 {result.base['sha256']})" if result.base else "the stand-in",
        "source AMI": result.source_ami or "none",
        **({"machines": str(result.machines)} if result.machines else {}),
        **({"API and restic": _programs(result.programs)} if result.programs else {}),
        **{name: f"{value} (version {versions.get(name, '?')})" for name, value in (result.published or {}).items()},
        **{name.replace("_", " "): f"{at:.1f} after RunInstances" for name, at in (result.boot or {}).items()},
        "/health": json.dumps(result.health) if result.health else "not requested",
    }
    console.print(_table("result", ("", ""), facts.items()))
    if result.relaxed:
        rows = list(map(astuple, result.relaxed))
        console.print(_table("longer limits than production's", ("", "production", "rehearsed", "because"), rows))
    if result.differences:
        console.print(_table("differences", ("", "production", "rehearsed"), map(astuple, result.differences)))
    if result.bad_day is not None:
        console.print(_table("the bad day", ("", "times"), [(name, str(n)) for name, n in result.bad_day.items()]))
    if result.fetched is not None:
        fetched = [
            (each.name or "(none)", str(each.connections), f"{each.received / 1e6:.1f}", "; ".join(each.problems))
            for each in result.fetched
        ]
        console.print(_table("fetched from outside", ("name", "connections", "MB", ""), fetched))


def _count(number: int | None) -> str:
    return "" if number is None else str(number)


def _programs(architecture: str) -> str:
    return f"for {architecture}" + ("" if architecture == SHIPPED else f": {NOT_SHIPPED}")


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> Table:
    table = Table(*columns, title=title, title_justify="left", show_header=any(columns))
    for row in rows:
        table.add_row(*map(escape, row))
    return table
