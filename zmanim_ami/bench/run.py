"""Running benchmarks by name: each one's report is written as soon as it is there."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.errors import BadInput
from support.progress import say, step
from zmanim_ami.bench import backup, boot, build, figures, gate, install_at_boot, kernel, rehearsals, retire, swap
from zmanim_ami.bench.figures import Limit, Ratio, Report, Series
from zmanim_ami.bench.lab import Lab, lab
from zmanim_ami.pipeline.ami import provenance

DIRECTORY = Path("build/bench")


@dataclass(frozen=True)
class Benchmark:
    """How one is run. `runs` is how often unless told; `measure` gets the clone's root and what opens the cloud.

    The cloud is opened by the first benchmark that needs one and shared by the others. What takes very long runs only
    when it is `named`.
    """

    runs: int
    notes: tuple[str, ...]
    measure: Callable[[Path, Callable[[], Lab], int], list[dict[str, float]]]
    ratios: Callable[[tuple[Series, ...]], tuple[Ratio, ...]] = lambda _measured: ()
    named: bool = False
    limits: tuple[Limit, ...] = ()


BENCHMARKS = {
    "boot": Benchmark(10, boot.NOTES, lambda _root, cloud, runs: boot.measure(cloud(), runs), limits=boot.LIMITS),
    "install-at-boot": Benchmark(
        3,
        install_at_boot.NOTES,
        lambda _root, cloud, runs: install_at_boot.measure(cloud(), runs),
        install_at_boot.ratios,
    ),
    "build": Benchmark(3, build.NOTES, lambda _root, cloud, runs: build.measure(cloud(), runs)),
    "backup": Benchmark(
        3, backup.NOTES, lambda _root, cloud, runs: backup.measure(cloud(), runs), ratios=backup.ratios
    ),
    "swap": Benchmark(4, swap.NOTES, lambda _root, cloud, runs: swap.measure(cloud(), runs)),
    "retire": Benchmark(3, retire.NOTES, lambda _root, cloud, runs: retire.measure(cloud(), runs)),
    "kernel": Benchmark(3, kernel.NOTES, lambda root, _cloud, runs: kernel.measure(root, runs), named=True),
    "gate": Benchmark(3, gate.NOTES, lambda root, _cloud, runs: gate.measure(root, runs)),
    "rehearsal": Benchmark(3, rehearsals.NOTES, lambda root, _cloud, runs: rehearsals.measure(root, runs)),
}


def chosen(only: Sequence[str]) -> list[str]:
    """Return the names to run, in the order of BENCHMARKS: all but those that have to
    be named when none is asked for. Raises `benchmark-unknown`."""
    unknown = [name for name in only if name not in BENCHMARKS]
    if unknown:
        raise BadInput(
            f"there is no benchmark {unknown[0]!r}",
            code="benchmark-unknown",
            expected=", ".join(BENCHMARKS),
            found=", ".join(only),
            fix="--only NAME, once for each",
        )
    return [name for name in BENCHMARKS if name in only or not (only or BENCHMARKS[name].named)]


def bench(
    root: Path,
    cache: Path,
    state: Path,
    *,
    only: Sequence[str] = (),
    runs: int = 0,
    open_lab: Callable[[Path, Path, Path], AbstractContextManager[Lab]] = lab,
) -> list[figures.Row]:
    """Run the benchmarks, write build/bench/NAME.json for each, and return the rows of a table.

    `runs` is how often each is run, 0: as often as each has it. On an interrupt the cloud is taken down, and the files
    of the benchmarks that were finished are there.

    Raises `benchmark-unknown`, `runs-invalid`, and what lab.lab and the benchmarks raise.
    """
    names = chosen(only)
    if not 0 <= runs <= 1000:
        raise BadInput(f"{runs} runs", code="runs-invalid", expected="1 to 1000", found=str(runs), fix="--runs 3")
    rows: list[figures.Row] = []
    with ExitStack() as stack:

        @functools.cache
        def cloud() -> Lab:
            return stack.enter_context(open_lab(root, cache, state))

        for name in names:
            if name in {"kernel", "gate", "rehearsal"}:
                # They need none, or make a cloud of its own: an idle one beside it would be timed along.
                stack.close()
            report = _report(name, root, cloud, runs or BENCHMARKS[name].runs)
            say(f"written: {figures.write(report, root / DIRECTORY)}")
            rows += figures.rows(report)
    return rows


def _report(name: str, root: Path, cloud: Callable[[], Lab], runs: int) -> Report:
    benchmark = BENCHMARKS[name]
    at = datetime.now(UTC).isoformat(timespec="seconds")
    before = os.getloadavg()
    with step(f"bench {name}"):
        measured = figures.series(benchmark.measure(root, cloud, runs))
    return Report(
        name=name,
        series=measured,
        ratios=benchmark.ratios(measured),
        notes=benchmark.notes,
        limits=benchmark.limits,
        at=at,
        commit=provenance.commit(root),
        machine={**figures.describe_machine(), "load_before": before, "load_after": os.getloadavg()},
    )
