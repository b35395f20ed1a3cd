"""What a benchmark keeps: every value, and numbers that can be checked by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from zmanim_ami.bench import figures
from zmanim_ami.bench.figures import Limit, Ratio, Report, Series


def report(**changes: object) -> Report:
    result = (Series("fast", (1.0, 2.0, 4.0)), Series("slow", (12.0, 16.0, 20.0)))
    values = {
        "name": "boot",
        "series": result,
        "ratios": (figures.ratio(result, "slow", "fast", "at least 6"),),
        "notes": ("counted from the launch",),
        "at": "2026-11-24T12:00:00+00:00",
        "commit": "0" * 40,
        "machine": {"processors": 2},
        **changes,
    }
    return Report(**values)  # type: ignore[arg-type]  # fields by name


@pytest.mark.parametrize(
    ("values", "median", "p95"),
    [
        ([float(n) for n in range(1, 11)], 5.5, 10.0),
        ([float(n) for n in range(1, 101)], 50.5, 95.0),
        ([3.0], 3.0, 3.0),
        ([9.0, 1.0, 5.0], 5.0, 9.0),
    ],
)
def test_median_and_p95_are_those_of_the_values(values: list[float], median: float, p95: float) -> None:
    series = Series("x", tuple(values))
    assert (series.median, series.p95) == (median, p95)


def test_a_ratio_compares_medians() -> None:
    assert report().ratios == (Ratio("slow / fast", 8.0, "at least 6"),)


def test_runs_become_series_in_order_and_one_that_lacks_a_value_loses_nothing_else() -> None:
    result = figures.series([{"a": 1.0, "b": 2.00049}, {"a": 3.0}])
    assert result == (Series("a", (1.0, 3.0)), Series("b", (2.0,)))


def test_the_file_holds_every_value_and_what_it_was_measured_on(tmp_path: Path) -> None:
    path = figures.write(report(), tmp_path / "bench")
    answer = json.loads(path.read_text())
    assert path.name == "boot.json"
    assert answer["series"]["slow"] == {"unit": "seconds", "values": [12.0, 16.0, 20.0], "median": 16.0, "p95": 20.0}
    assert answer["ratios"]["slow / fast"] == {"value": 8.0, "goal": "at least 6"}
    assert answer["machine"] == {"processors": 2}
    assert answer["at"].startswith("2026-")
    assert [entry.name for entry in path.parent.iterdir()] == ["boot.json"]


def test_a_limit_is_told_with_whether_the_95th_percentile_is_within_it(tmp_path: Path) -> None:
    limited = report(limits=(Limit("fast", 4.0), Limit("slow", 19.0), Limit("not measured", 1.0)))
    assert [row.unit for row in figures.rows(limited)[:2]] == [
        "seconds (limit: 4, p95 is within it)",
        "seconds (limit: 19, p95 is beyond it)",
    ]
    limits = json.loads(figures.write(limited, tmp_path).read_text())["limits"]
    assert {name: (each["seconds"], each["p95"], each["kept"]) for name, each in limits.items()} == {
        "fast": (4.0, 4.0, True),
        "slow": (19.0, 20.0, False),
    }


def test_the_table_ends_with_the_ratios_and_their_goal() -> None:
    rows = figures.rows(report())
    assert [row.measured for row in rows] == ["fast", "slow", "slow / fast"]
    assert rows[0].runs == 3
    assert rows[-1].unit == "times (goal: at least 6)"


def test_megabytes_are_called_that_in_the_file_and_in_the_table(tmp_path: Path) -> None:
    result = report(series=(Series("stored (MB)", (120.0,)), Series("dump", (2.0,))), ratios=())
    answer = json.loads(figures.write(result, tmp_path).read_text())
    assert [each["unit"] for each in answer["series"].values()] == ["MB", "seconds"]
    assert [row.unit for row in figures.rows(result)] == ["MB", "seconds"]


def test_missing_a_goal_fails_nothing() -> None:
    result = (Series("fast", (1.0,)), Series("slow", (2.0,)))
    assert figures.ratio(result, "slow", "fast", "at least 6").value == 2.0
