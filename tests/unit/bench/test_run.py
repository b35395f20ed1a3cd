"""Which benchmarks run, and that what was started is taken down again."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.git import git
from tests.support import ROOT
from tests.support.errors import raises
from zmanim_ami.bench import run
from zmanim_ami.bench.run import BENCHMARKS, Benchmark


class Labs:
    """Clouds that only note that they come and go."""

    def __init__(self) -> None:
        self.events: list[str] = []

    @contextmanager
    def __call__(self, *_arguments: object) -> Iterator[Any]:
        self.events.append("up")
        try:
            yield "cloud"
        finally:
            self.events.append("down")


@pytest.fixture
def labs() -> Labs:
    return Labs()


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A repository with a commit."""
    identity = ["-c", "user.name=x", "-c", "user.email=x@x.example"]
    for command in (["init", "--quiet"], [*identity, "commit", "--quiet", "--allow-empty", "--message=x"]):
        git(tmp_path, *command)
    return tmp_path


def replace(
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    measure: Callable[[Path, Callable[[], Any], int], list[dict[str, float]]],
) -> None:
    monkeypatch.setitem(BENCHMARKS, name, Benchmark(2, ("a note",), measure))


def test_everything_else_runs_unless_something_is_named() -> None:
    assert run.chosen([]) == ["boot", "install-at-boot", "build", "backup", "swap", "retire", "gate", "rehearsal"]
    assert run.chosen(["rehearsal", "boot"]) == ["boot", "rehearsal"]


def test_what_takes_very_long_runs_only_when_it_is_named() -> None:
    assert "kernel" not in run.chosen([])
    assert run.chosen(["kernel"]) == ["kernel"]


def test_boots_are_measured_ten_times_unless_told() -> None:
    assert BENCHMARKS["boot"].runs == 10


def test_an_unknown_name_is_refused_before_anything_is_started(labs: Labs, tmp_path: Path) -> None:
    with raises("benchmark-unknown") as caught:
        run.bench(tmp_path, tmp_path, tmp_path, only=["boto"], open_lab=labs)
    assert caught.value.exit_code == 2
    assert "boot" in caught.value.expected
    assert labs.events == []


@pytest.mark.parametrize("runs", [-1, 1001])
def test_an_impossible_number_of_runs_is_refused(labs: Labs, tmp_path: Path, runs: int) -> None:
    with raises("runs-invalid"):
        run.bench(tmp_path, tmp_path, tmp_path, runs=runs, open_lab=labs)
    assert labs.events == []


def test_benchmarks_share_one_cloud_and_a_rehearsal_runs_without_it(
    labs: Labs, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(name: str, *, needs: bool) -> Callable[[Path, Callable[[], Any], int], list[dict[str, float]]]:
        def body(_root: Path, cloud: Callable[[], Any], runs: int) -> list[dict[str, float]]:
            if needs:
                assert cloud() == "cloud"
            labs.events.append(f"{name} {runs}")
            return [{"x": 1.0}] * runs

        return body

    for name in run.chosen([]):
        replace(monkeypatch, name, measure(name, needs=name not in {"gate", "rehearsal"}))
    rows = run.bench(clone, clone, clone, runs=3, open_lab=labs)
    shared = ["boot 3", "install-at-boot 3", "build 3", "backup 3", "swap 3", "retire 3"]
    assert labs.events == ["up", *shared, "down", "gate 3", "rehearsal 3"]
    assert [row.benchmark for row in rows] == run.chosen([])
    report = json.loads((clone / "build/bench/build.json").read_text())
    assert report["series"]["x"]["values"] == [1.0, 1.0, 1.0]
    assert {"processor", "load_before", "load_after"} <= set(report["machine"])
    assert report["notes"] == ["a note"]


def test_an_interrupt_takes_the_cloud_down_and_keeps_what_was_finished(
    labs: Labs, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_root: Path, cloud: Callable[[], Any], _runs: int) -> list[dict[str, float]]:
        cloud()
        raise KeyboardInterrupt

    replace(monkeypatch, "boot", lambda _root, cloud, _runs: [{"x": 1.0}] if cloud() else [])
    replace(monkeypatch, "build", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run.bench(clone, clone, clone, only=["boot", "build"], open_lab=labs)
    assert labs.events == ["up", "down"]
    assert [path.name for path in (clone / "build/bench").iterdir()] == ["boot.json"]


def test_nothing_in_a_benchmark_asserts_a_time() -> None:
    texts = [path.read_text() for path in sorted((ROOT / "zmanim_ami/bench").glob("*.py"))]
    assert texts
    assert [line for text in texts for line in text.splitlines() if line.strip().startswith("assert ")] == []
