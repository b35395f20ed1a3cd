"""The pinned govulncheck, asked by module of a database of our own: it answers as image.advisories expects it to.

Without a machine: it is here because a tool has to be built for it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.images.govulncheck import entry, write_database
from tests.support.images.inventories import inventory
from zmanim_ami import toolchain
from zmanim_ami.pipeline.advisories import findings, golang
from zmanim_ami.toolchain.environment import user_cache

PGX = "github.com/jackc/pgx/v5"
FOUND = findings.Findings((), ("zmanim-api (2 Go modules)",))


@pytest.fixture(scope="module")
def govulncheck() -> Path:
    return toolchain.program(user_cache(), "govulncheck")


def look(program: Path, database: str) -> findings.Findings:
    return golang.add(FOUND, inventory(), "zmanim-api", golang.govulncheck(lambda: program, database))


def test_what_the_database_knows_of_the_api_s_modules_and_of_go_is_open(govulncheck: Path, tmp_path: Path) -> None:
    known = (
        entry("GO-2099-0001", PGX, "5.9.0"),
        entry("GO-2099-0002", "stdlib", "1.99.0", introduced="1.26.0-0"),
        entry("GO-2099-0003", "golang.org/x/sync", "0.1.0"),
        entry("GO-2099-0004", "github.com/restic/restic", "1.0.0"),
    )
    found = look(govulncheck, write_database(tmp_path / "db", *known))
    assert [(each.id, *each.packages) for each in found.open] == [
        ("GO-2099-0001", f"{PGX} v5.8.0 < v5.9.0"),
        ("GO-2099-0002", "stdlib go1.26.8 < go1.99.0"),
    ]
    assert found.not_covered == ()


def test_a_database_that_knows_nothing_of_the_api_leaves_nothing_open(govulncheck: Path, tmp_path: Path) -> None:
    known = entry("GO-2099-0003", "golang.org/x/sync", "0.1.0")
    assert look(govulncheck, write_database(tmp_path / "db", known)) == findings.Findings((), ())


@pytest.mark.parametrize("database", ["file:///nowhere", "https://localhost:9/none"])
def test_a_database_that_is_not_there_leaves_the_api_uncovered(govulncheck: Path, database: str) -> None:
    found = look(govulncheck, database)
    assert found == findings.Findings((), (f"zmanim-api ({golang.UNREACHABLE})",))
