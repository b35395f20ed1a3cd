"""What a benchmark found: every run's value, median, 95th percentile and ratios, as a file and as rows of a table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.files import write_atomically


@dataclass(frozen=True)
class Series:
    """One thing that was measured: its value in every run (in the order of the runs; never empty).

    A name that ends with (MB) is of megabytes, any other of seconds.
    """

    name: str
    values: tuple[float, ...]

    @property
    def unit(self) -> str:
        """What the values are."""
        return "MB" if self.name.endswith("(MB)") else "seconds"

    @property
    def median(self) -> float:
        """The median."""
        return statistics.median(self.values)

    @property
    def p95(self) -> float:
        """The smallest measured value that 95 % of the runs do not exceed: of ten runs, the slowest."""
        return sorted(self.values)[math.ceil(0.95 * len(self.values)) - 1]


@dataclass(frozen=True)
class Ratio:
    """How many times more one series is than another (medians), and what it is hoped to be, in words."""

    name: str
    value: float
    goal: str = ""


@dataclass(frozen=True)
class Report:
    """All that one benchmark found. `machine` says on what, `at` when it began (UTC), `notes` what to read it with."""

    name: str
    series: tuple[Series, ...]
    ratios: tuple[Ratio, ...]
    notes: tuple[str, ...]
    at: str
    commit: str
    machine: Mapping[str, Any]


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    benchmark: str
    measured: str
    runs: int
    median: str
    p95: str
    unit: str


def series(samples: Sequence[Mapping[str, float]]) -> tuple[Series, ...]:
    """Turn the runs' values, one mapping a run, into one series for each name, in the order of the first run.

    A name that a run lacks (a step that there is only sometimes) has fewer values.
    """
    names = dict.fromkeys(name for sample in samples for name in sample)
    return tuple(Series(name, tuple(round(sample[name], 3) for sample in samples if name in sample)) for name in names)


def ratio(found: Sequence[Series], slow: str, fast: str, goal: str = "") -> Ratio:
    """Return how many times slower the series called `slow` is than the one called `fast`, by their medians."""
    medians = {each.name: each.median for each in found}
    return Ratio(f"{slow} / {fast}", round(medians[slow] / medians[fast], 2), goal)


def rows(report: Report) -> list[Row]:
    """Return the report as lines of a table, ratios last."""
    timed = [
        Row(report.name, each.name, len(each.values), f"{each.median:.2f}", f"{each.p95:.2f}", each.unit)
        for each in report.series
    ]
    compared = [
        Row(
            report.name, each.name, 0, f"{each.value:.2f}", "", "times" + (f" (goal: {each.goal})" if each.goal else "")
        )
        for each in report.ratios
    ]
    return timed + compared


def as_json(report: Report) -> str:
    """Return the text of the report's file."""
    told = {
        "name": report.name,
        "at": report.at,
        "commit": report.commit,
        "machine": report.machine,
        "series": {
            each.name: {"unit": each.unit, "values": each.values, "median": round(each.median, 3), "p95": each.p95}
            for each in report.series
        },
        "ratios": {each.name: {"value": each.value, "goal": each.goal} for each in report.ratios},
        "notes": report.notes,
    }
    return json.dumps(told, indent=2, ensure_ascii=False) + "\n"


def write(report: Report, directory: Path) -> Path:
    """Put the report at `directory`/NAME.json by one rename, and return where it is."""
    path = directory / f"{report.name}.json"
    write_atomically(path, as_json(report))
    return path
