"""What a rehearsal proved, as a file for machines and a table for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from support.files import write_atomically
from zmanim_ami.rehearsal.fetched import Fetched
from zmanim_ami.rehearsal.versions import Difference


@dataclass(frozen=True)
class Step:
    """One step: the name of the task it runs (or of the preparation it is), its duration in seconds, its success."""

    name: str
    seconds: float
    ok: bool


@dataclass(frozen=True)
class Result:
    """Everything `result.json` says; fields that no step has filled yet are empty.

    `published` maps SSM parameter names to the values that were read back, `parameter_versions` to their versions.
    `boot` counts seconds from RunInstances: `running_seconds` until the instance ran, `healthy_seconds` until it said
    that it is ready. `tree_digest` names what the image was made from; `sources` all that it was made by, so that a
    tree can be told from the one that was rehearsed without building anything. `base` is the archive that machines
    started from, {"file", "sha256"}; None for the stand-in. `fetched` is what machines asked for outside; None where
    they had no way out.
    """

    version: str
    ok: bool = False
    ami_id: str = ""
    source_ami: str = ""
    tree_digest: str = ""
    sources: str = ""
    base: Mapping[str, str] | None = None
    published: Mapping[str, str] | None = None
    parameter_versions: Mapping[str, int] | None = None
    health: Mapping[str, Any] | None = None
    boot: Mapping[str, float] | None = None
    steps: tuple[Step, ...] = ()
    differences: tuple[Difference, ...] = ()
    fetched: tuple[Fetched, ...] | None = None
    error: str = ""

    def with_step(self, step: Step) -> Result:
        """Return this result with one more step at its end."""
        return replace(self, steps=(*self.steps, step))

    def as_json(self) -> str:
        """Return the text of `result.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"


def write(result: Result, path: Path) -> None:
    """Put `result` at `path` by one rename, so that a reader sees the last whole one at any moment."""
    write_atomically(path, result.as_json())


def show(result: Result, console: Console) -> None:
    """Print what was done, how long it took and what came of it."""
    steps = Table("step", "seconds", "", title=f"rehearsal of {result.version}", title_justify="left")
    for step in result.steps:
        steps.add_row(step.name, f"{step.seconds:.1f}", "done" if step.ok else "[red]failed[/red]")
    steps.add_section()
    steps.add_row("in all", f"{sum(step.seconds for step in result.steps):.1f}", "")
    console.print(steps)

    facts = Table(show_header=False, box=None)
    facts.add_row("AMI", result.ami_id or "none")
    facts.add_row("base", f"{result.base['file']} (sha256 {result.base['sha256']})" if result.base else "the stand-in")
    facts.add_row("source AMI", result.source_ami or "none")
    versions = result.parameter_versions or {}
    for name, value in (result.published or {}).items():
        facts.add_row(name, f"{value} (version {versions.get(name, '?')})")
    for name, seconds in (result.boot or {}).items():
        facts.add_row(name.replace("_", " "), f"{seconds:.1f} after RunInstances")
    facts.add_row("/health", json.dumps(result.health) if result.health else "not asked")
    console.print(facts)

    if result.differences:
        differences = Table("", "production", "rehearsed", title="differences", title_justify="left")
        for difference in result.differences:
            differences.add_row(difference.name, difference.production, difference.rehearsed)
        console.print(differences)

    if result.fetched is not None:
        fetched = Table("name", "connections", "MB", "", title="fetched from outside", title_justify="left")
        for each in result.fetched:
            problems = escape("; ".join(each.problems))
            fetched.add_row(each.name or "(none)", str(each.connections), f"{each.received / 1e6:.1f}", problems)
        console.print(fetched)
