"""Which benchmarks run, and that what was started is taken down again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.bench import run
from zmanim_ami.bench.run import BENCHMARKS, Benchmark


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A cloud that only notes that it comes and goes."""
    noted: list[str] = []

    @contextmanager
    def lab(*_arguments: object) -> Iterator[str]:
        noted.append("up")
        try:
            yield "cloud"
        finally:
            noted.append("down")

    monkeypatch.setattr(run, "lab", lab)
    monkeypatch.setattr("zmanim_ami.pipeline.ami.provenance.commit", lambda _root: "0" * 40)
    return noted


def replace(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    measure: Callable[[Path, Callable[[], Any], int], list[dict[str, float]]],
) -> None:
    monkeypatch.setitem(BENCHMARKS, name, Benchmark(2, ("a note",), measure))


def test_everything_runs_unless_something_is_named() -> None:
    assert run.chosen([]) == ["boot", "install-at-boot", "bake", "backup", "gate", "rehearsal"]
    assert run.chosen(["rehearsal", "boot"]) == ["boot", "rehearsal"]


def test_boots_are_measured_ten_times_unless_told() -> None:
    assert BENCHMARKS["boot"].runs == 10


def test_an_unknown_name_is_refused_before_anything_is_started(events: list[str], tmp_path: Path) -> None:
    with raises("benchmark-unknown") as fault:
        run.bench(tmp_path, tmp_path, tmp_path, only=["boto"])
    assert fault.value.exit_code == 2
    assert "boot" in fault.value.expected
    assert events == []


@pytest.mark.parametrize("runs", [-1, 1001])
def test_an_impossible_number_of_runs_is_refused(events: list[str], tmp_path: Path, runs: int) -> None:
    with raises("runs-invalid"):
        run.bench(tmp_path, tmp_path, tmp_path, runs=runs)
    assert events == []


def test_benchmarks_share_one_cloud_and_a_rehearsal_runs_without_it(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(name: str, *, needs: bool) -> Callable[[Path, Callable[[], Any], int], list[dict[str, float]]]:
        def body(_root: Path, cloud: Callable[[], Any], runs: int) -> list[dict[str, float]]:
            if needs:
                assert cloud() == "cloud"
            events.append(f"{name} {runs}")
            return [{"x": 1.0}] * runs

        return body

    for name in BENCHMARKS:
        replace(monkeypatch, name, measure(name, needs=name not in {"gate", "rehearsal"}))
    rows = run.bench(tmp_path, tmp_path, tmp_path, runs=3)
    assert events == ["up", "boot 3", "install-at-boot 3", "bake 3", "backup 3", "down", "gate 3", "rehearsal 3"]
    assert [row.benchmark for row in rows] == list(BENCHMARKS)
    told = json.loads((tmp_path / "build/bench/bake.json").read_text())
    assert told["series"]["x"]["values"] == [1.0, 1.0, 1.0]
    assert {"processor", "load_before", "load_after"} <= set(told["machine"])
    assert told["notes"] == ["a note"]


def test_an_interrupt_takes_the_cloud_down_and_keeps_what_was_finished(
    events: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_root: Path, cloud: Callable[[], Any], _runs: int) -> list[dict[str, float]]:
        cloud()
        raise KeyboardInterrupt

    replace(monkeypatch, "boot", lambda _root, cloud, _runs: [{"x": 1.0}] if cloud() else [])
    replace(monkeypatch, "bake", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.bench(tmp_path, tmp_path, tmp_path, only=["boot", "bake"])
    assert events == ["up", "down"]
    assert [path.name for path in (tmp_path / "build/bench").iterdir()] == ["boot.json"]


def test_nothing_in_a_benchmark_asserts_a_time() -> None:
    texts = [path.read_text() for path in sorted((ROOT / "bench").glob("*.py"))]
    assert [line for text in texts for line in text.splitlines() if line.strip().startswith("assert ")] == []
