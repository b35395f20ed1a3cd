"""`python -m zmanim_ami.gate [CHECK …] [--changed] [--no-cache]`: run the checks (default: all) over this tree.

One check runs here, several run side by side. With --changed only what a change against main can affect is looked at.
A check that has passed is not run again while what it reads is the same; with --no-cache, and in CI (the variable CI is
set), it is. What a check skips, because a program is not on this host, fails in CI; elsewhere it is shown and counted.
"""

from __future__ import annotations

import argparse
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

from support.errors import HostLacks
from support.parallel import side_by_side
from support.process import interrupt_on_termination, run
from zmanim_ami.gate import changes
from zmanim_ami.gate.checks import CHECKS, Check
from zmanim_ami.gate.finding import Finding, Level, files


def main() -> int:
    """Run what the command line names and return the exit code."""
    interrupt_on_termination()
    parser = argparse.ArgumentParser(prog="python -m zmanim_ami.gate")
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=" ".join(CHECKS))
    parser.add_argument("--changed", action="store_true", help="only what a change against main can affect")
    parser.add_argument("--no-cache", action="store_true", help="run what has passed before, too")
    arguments = parser.parse_args()
    unknown = set(arguments.checks) - CHECKS.keys()
    if unknown:
        parser.error(f"no such check: {', '.join(sorted(unknown))}")
    if arguments.no_cache:
        os.environ[changes.NO_CACHE] = "1"
    tree = Path()
    changed = changes.changed_files(tree) if arguments.changed else None
    names = [name for name in arguments.checks or CHECKS if _must_run(CHECKS[name], tree, changed)]
    if len(names) == 1:
        return run_check(CHECKS[names[0]], tree, changed)
    return run_side_by_side(names, ["--changed"] if arguments.changed else []) if names else 0


def _must_run(check: Check, tree: Path, changed: Sequence[str] | None) -> bool:
    """Tell whether a check has anything to look at; say why not."""
    if changed is not None and not any(check.reads(name) for name in changed):
        print(f"{check.name}: no change can affect it")
        return False
    if changes.passed(tree, check.name) == _digests(check, tree):
        print(f"{check.name}: it passed, and what it reads is the same")
        return False
    return True


def _digests(check: Check, tree: Path) -> dict[str, str]:
    return changes.digests(tree, {check.name: [name for name in map(str, files(tree)) if check.reads(name)]})


def run_check(check: Check, tree: Path, changed: Sequence[str] | None) -> int:
    """Run one check, print its findings, and return the exit code; what it can't do without is told, with exit code 3.

    What it can do without is a finding, by `skipped`.
    """
    digests = _digests(check, tree)
    try:
        findings = list(check.run(tree, changed))
    except HostLacks as lacks:
        print(f"{check.name}: {lacks}")
        return lacks.exit_code
    if changed is None:
        changes.save(tree, check.name, {} if findings else digests)
    return report(check.name, findings)


def report(name: str, findings: Sequence[Finding]) -> int:
    """Print the findings and return the exit code: 1 when something fails here."""
    for finding in findings:
        print(finding)
    failing = {Level.ERROR, Level.SKIPPED} if os.environ.get("CI") else {Level.ERROR}
    counts = Counter(finding.level.value for finding in findings)
    print(f"{name}: {', '.join(f'{count} × {level}' for level, count in counts.items()) or 'no findings'}")
    return 1 if any(finding.level in failing for finding in findings) else 0


def run_side_by_side(names: Sequence[str], options: Sequence[str]) -> int:
    """Run each check in a process of its own, print its output when it ends, a summary last; return the exit code."""
    start, running = time.monotonic(), set[str]()
    works = [partial(_run_in_a_process, name, options, running) for name in names]
    with _each_minute(lambda: f"after {time.monotonic() - start:.0f} s: {', '.join(sorted(running))} still running"):
        results = side_by_side(works, at_once=os.cpu_count())
    print("\n".join(line for _, line in results))
    failed = sum(failed for failed, _ in results)
    print(f"{len(names) - failed} of {len(names)} checks passed in {time.monotonic() - start:.1f} s")
    return min(failed, 1)


@contextmanager
def _each_minute(line: Callable[[], str]) -> Iterator[None]:
    """Print a line each minute of the body of a `with`: a log that says nothing looks like one of a gate that hangs."""
    over = threading.Event()

    def say() -> None:
        while not over.wait(60):
            print(line(), flush=True)

    threading.Thread(target=say, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _run_in_a_process(name: str, options: Sequence[str], running: set[str]) -> tuple[bool, str]:
    start = time.monotonic()
    running.add(name)
    try:
        done = run([sys.executable, "-m", "zmanim_ami.gate", name, *options], check=False)
    finally:
        running.discard(name)
    print(f"{done.stdout}{done.stderr}", end="", flush=True)
    failed = done.returncode != 0
    return failed, f"{'✗' if failed else '✓'} {name:<14}{time.monotonic() - start:6.1f} s  {CHECKS[name].title}"


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
