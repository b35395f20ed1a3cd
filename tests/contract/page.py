"""docs/contract.md: how much of AWS the rows hold the local cloud to, by service."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.contract.areas import ROWS
from tests.contract.called import RESTIC, operations
from tests.contract.rows import UNSUPPORTED, Row
from tests.support import ROOT

PAGE = Path("docs/contract.md")
_HEADER = ("service", "operations", "rows", "carried out", "refused as AWS does", "refused as unsupported")


def write() -> None:
    """Write the page anew."""
    (ROOT / PAGE).write_text(text())


def text(rows: Sequence[Row] = ROWS) -> str:
    """Return the page, from the rows alone."""
    return "\n".join(_lines(rows)) + "\n"


def _lines(rows: Sequence[Row]) -> Iterator[str]:
    about = len({row.call.operation for row in rows})
    called = len({*operations(), *RESTIC})
    yield from (
        "# What the local cloud is held to",
        "",
        "Written by `./inv write-contents` from the rows in `tests/contract/areas/`: each is one call, the answer or the code",
        "that AWS documents for it, and the page that says so. `./nox -s contract` asks all of them of the whole local cloud",
        "in one process, where machines are only records; what booted ones do is seen in `tests/machines/`.",
        "",
        f"{len(rows)} rows about {about} operations. Each of the {called} operations that the pipeline, the image, Packer,",
        "restic and the documents call has one at least.",
        "",
        f"| {' | '.join(_HEADER)} |",
        f"| --- |{' ---: |' * (len(_HEADER) - 1)}",
    )
    for service in sorted({row.call.service for row in rows}):
        yield _counted(f"`{service}`", [row for row in rows if row.call.service == service])
    yield _counted("all", rows)
    yield from (
        "",
        "Whatever moto lacks and `localcloud/` does not add is `UnsupportedOperation`, at once, in the service's own protocol,",
        "so are:",
        "",
    )
    for row in rows:
        if row.refused == UNSUPPORTED:
            yield f"- `{row.call.service}` {row.call.name}: {row.says}"
    yield from ("", "Codes that none of AWS's pages names for what is asked, each with where it was taken from:", "")
    for row in rows:
        if row.guess:
            yield f"- `{row.call.service}` {row.call.name}: {row.says}, `{row.refused.replace('|', '` or `')}`: {row.guess}"


def _counted(name: str, rows: Sequence[Row]) -> str:
    refused = [row.refused for row in rows if row.refused]
    unsupported = refused.count(UNSUPPORTED)
    counts = (
        len({row.call.operation for row in rows}), len(rows), len(rows) - len(refused), len(refused) - unsupported,
        unsupported,
    )  # fmt: skip
    return f"| {name} | {' | '.join(map(str, counts))} |"
