"""What a benchmark measured, on what machine: every value, medians and ratios, as a file and as rows of a table."""

from __future__ import annotations

import json
import math
import os
import platform
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.files import write_atomically
from support.progress import step


@dataclass(frozen=True)
class Series:
    """One thing that was measured: its value in every run (in the order of the runs; never empty).

    A name that ends with (MB) is of megabytes, one that ends with (number) of things, any other of seconds.
    """

    name: str
    values: tuple[float, ...]

    @property
    def unit(self) -> str:
        """What the values are."""
        return {"(MB)": "MB", "(number)": "number"}.get(self.name.rpartition(" ")[2], "seconds")

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
    """How many times more one series is than another (medians), and its goal, in words."""

    name: str
    value: float
    goal: str = ""


@dataclass(frozen=True)
class Limit:
    """How many seconds of a series' 95th percentile are promised."""

    name: str
    seconds: float


@dataclass(frozen=True)
class Report:
    """All that one benchmark measured. `machine` says on what, `at` when it began (UTC), `notes` how to read it."""

    name: str
    series: tuple[Series, ...]
    ratios: tuple[Ratio, ...]
    notes: tuple[str, ...]
    at: str
    commit: str
    machine: Mapping[str, Any]
    limits: tuple[Limit, ...] = ()


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

    A name that a run lacks (a step that is only sometimes needed) has fewer values.
    """
    names = dict.fromkeys(name for sample in samples for name in sample)
    return tuple(Series(name, tuple(round(sample[name], 3) for sample in samples if name in sample)) for name in names)


def repeat(name: str, runs: int, sample: Callable[[int], dict[str, float]]) -> list[dict[str, float]]:
    """Take a sample in each run (it gets the run's number, from 1), telling of each as a step."""
    samples = []
    for number in range(1, runs + 1):
        with step(f"{name}, {number} of {runs}"):
            samples.append(sample(number))
    return samples


def ratio(measured: Sequence[Series], slow: str, fast: str, goal: str = "") -> Ratio:
    """Return how many times slower the series called `slow` is than the one called `fast`, by their medians."""
    medians = {each.name: each.median for each in measured}
    return Ratio(f"{slow} / {fast}", round(medians[slow] / medians[fast], 2), goal)


def rows(report: Report) -> list[Row]:
    """Return the report as lines of a table, ratios last."""
    kept = _kept(report)
    measured = [
        Row(
            *(report.name, each.name, len(each.values), f"{each.median:.2f}", f"{each.p95:.2f}"),
            f"{each.unit} ({kept[each.name]['words']})" if each.name in kept else each.unit,
        )
        for each in report.series
    ]
    times = {each.name: f"times (goal: {each.goal})" if each.goal else "times" for each in report.ratios}
    ratios = [Row(report.name, each.name, 0, f"{each.value:.2f}", "", times[each.name]) for each in report.ratios]
    return measured + ratios


def _kept(report: Report) -> dict[str, dict[str, Any]]:
    """Return of each series that has a limit whether its 95th percentile is within it."""
    p95 = {each.name: each.p95 for each in report.series}
    return {
        each.name: {
            "seconds": each.seconds,
            "p95": p95[each.name],
            "kept": p95[each.name] <= each.seconds,
            "words": f"limit: {each.seconds:g}, p95 is {'within' if p95[each.name] <= each.seconds else 'beyond'} it",
        }
        for each in report.limits
        if each.name in p95
    }


def write(report: Report, directory: Path) -> Path:
    """Put the report at `directory`/NAME.json by one rename, and return where it is."""
    content = {
        **vars(report),
        "series": {
            each.name: {"unit": each.unit, "values": each.values, "median": round(each.median, 3), "p95": each.p95}
            for each in report.series
        },
        "limits": _kept(report),
        "ratios": {each.name: {"value": each.value, "goal": each.goal} for each in report.ratios},
    }
    path = directory / f"{report.name}.json"
    write_atomically(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    return path


def describe_machine(proc: Path = Path("/proc")) -> dict[str, Any]:
    """Return processor, number of processors, memory (GiB), kernel and architecture of this machine."""
    model = re.search(r"^model name\s*: (.*)$", (proc / "cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal: *(\d+) kB$", (proc / "meminfo").read_text(), re.MULTILINE)
    return {
        "processor": model[1] if model else "unknown",
        "processors": os.cpu_count(),
        "memory_gib": round(int(memory[1]) / (1 << 20), 1) if memory else 0,
        "kernel": platform.release(),
        "architecture": platform.machine(),
    }
