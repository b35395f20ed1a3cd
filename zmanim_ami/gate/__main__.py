"""`python -m zmanim_ami.gate CHECK [--changed] [--no-cache]`: run one check over the tree that it is in.

With --changed only what a change against main can affect is looked at. With --no-cache no check goes by what it has
said of the same inputs before; in CI (the variable CI is set) none does. There something that could not be looked at is
a failure; elsewhere it is told and counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from support.process import interrupt_on_termination
from zmanim_ami.gate import cache
from zmanim_ami.gate.changed import changed_files
from zmanim_ami.gate.checks import CHECKS
from zmanim_ami.gate.finding import Finding, Level


def main() -> int:
    """Run the check that the command line names and return the exit code."""
    interrupt_on_termination()
    parser = argparse.ArgumentParser(prog="python -m zmanim_ami.gate")
    parser.add_argument("check", choices=sorted(CHECKS))
    parser.add_argument("--changed", action="store_true", help="only what a change against main can affect")
    parser.add_argument("--no-cache", action="store_true", help="go by nothing that was found before")
    arguments = parser.parse_args()
    if arguments.no_cache:
        os.environ[cache.DISBELIEVE] = "1"
    tree = Path()
    check = CHECKS[arguments.check]
    if not arguments.changed:
        return report(check.name, check.check(tree))
    changed = changed_files(tree)
    if not check.is_affected_by(changed):
        print(f"{check.name}: no change can affect it")
        return 0
    return report(check.name, check.check_changed(tree, changed))


def report(name: str, found: list[Finding]) -> int:
    """Print what was found and return the exit code: 1 when something fails here."""
    for finding in found:
        print(finding)
    failing = {Level.ERROR, Level.NOT_LOOKED} if os.environ.get("CI") else {Level.ERROR}
    counts = Counter(finding.level for finding in found)
    told = ", ".join(
        f"{count} {level.value}{'s' if count > 1 and level is not Level.NOT_LOOKED else ''}"
        for level, count in counts.items()
    )
    print(f"{name}: {told or 'nothing to say'}")
    return 1 if any(finding.level in failing for finding in found) else 0


if __name__ == "__main__":
    sys.exit(main())
