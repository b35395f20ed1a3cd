"""Which advisories are open for what is in an image, and for what of it nobody issues any.

Only Amazon's own repository has advisories. What came from elsewhere (SPAL, PGDG, compiled here), restic, and the Go
modules of ours (golang.py asks for the API's) are *not covered*: that is never the same as nothing wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from support.errors import Error
from zmanim_ami.pipeline.advisories.rpm_version import KEY, compare
from zmanim_ami.pipeline.advisories.updateinfo import SEVERITIES, Advisory, severest_first

CORE = "amazonlinux"
# On an image: what was open when it was built.
ADVISORIES_TAG = "zmanim:advisories"
NOT_KNOWN = "not known"

Inventory = Mapping[str, Any]


@dataclass(frozen=True)
class Open:
    """An advisory that something in an image lacks the update of: `packages` as `NAME INSTALLED < FIXED`."""

    id: str
    severity: str
    packages: tuple[str, ...]


@dataclass(frozen=True)
class Findings:
    """What is open, the severest first, and what is not covered by any advisories."""

    open: tuple[Open, ...]
    not_covered: tuple[str, ...]

    @property
    def counts(self) -> dict[str, int]:
        """The number of open advisories by severity."""
        found = Counter(each.severity for each in self.open)
        return {severity: found[severity] for severity in SEVERITIES if found[severity] or severity != "unknown"}

    def text(self, at: datetime) -> str:
        """Return them in short, as the tag zmanim:advisories has it."""
        counts = ", ".join(f"{number} {severity}" for severity, number in self.counts.items())
        return f"{counts}; {len(self.not_covered)} not covered ({at:%Y-%m-%d})"


def find(inventory: Inventory, advisories: Iterable[Advisory]) -> Findings:
    """Return what is open for an image with this inventory. Raises `inventory-too-old`.

    Of several packages of one name the newest counts, as it is the one that runs.
    """
    try:
        installed = _newest([row for row in inventory["rpms"] if row["repository"] == CORE])
        not_covered = [f"{row['name']} (rpm)" for row in inventory["rpms"] if row["repository"] != CORE]
        programs = [
            f"{path.rpartition('/')[2]} ({len(info['modules'])} Go modules)" for path, info in inventory["go"].items()
        ]
    except KeyError as error:
        raise Error(
            "the image's inventory does not say where its packages are from",
            code="inventory-too-old",
            expected="the fields rpms, with a repository each, and go",
            found=f"no {error}",
            fix="build the image anew: only then can be told what is open for it",
        ) from error
    found = [each for advisory in advisories if (each := _open(advisory, installed))]
    return Findings(tuple(sorted(found, key=severest_first)), (*sorted(set(not_covered)), *programs))


def about(inventory: Inventory, advisories: Iterable[Advisory]) -> tuple[Advisory, ...]:
    """Return those that are about a package of an image's by its name, in whatever version."""
    names = {row["name"] for row in inventory["rpms"]}
    return tuple(each for each in advisories if any(fix["name"] in names for fix in each.fixes))


def _newest(rows: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], Mapping[str, str]]:
    return {(row["name"], row["arch"]): row for row in sorted(rows, key=KEY)}


def _open(advisory: Advisory, installed: Mapping[tuple[str, str], Mapping[str, str]]) -> Open | None:
    lacking = []
    for fix in advisory.fixes:
        row = installed.get((fix["name"], fix["arch"]))
        if row is not None and compare(row, fix) < 0:
            lacking.append(f"{fix['name']} {_version(row)} < {_version(fix)}")
    return Open(advisory.id, advisory.severity, tuple(sorted(set(lacking)))) if lacking else None


def _version(row: Mapping[str, str]) -> str:
    epoch = f"{row['epoch']}:" if row["epoch"] not in {"", "0"} else ""
    return f"{epoch}{row['version']}-{row['release']}"
