"""Migrations run once, in order, and by names that can't be anything else."""

from __future__ import annotations

import pytest

from zmanim_host.host import HostError
from zmanim_host.release.migrations import pending, version_of

ONE, TWO, THREE = "20260101000000_one.sql", "20260102000000_two.sql", "20260103000000_three.sql"


def test_what_is_not_applied_yet_is_pending_in_the_order_of_names() -> None:
    assert pending([THREE, ONE, TWO], [version_of(TWO)]) == [ONE, THREE]


def test_a_row_with_only_the_number_counts_as_applied() -> None:
    assert pending([ONE, TWO], ["20260101000000"]) == [TWO]


def test_rows_of_a_newer_release_are_no_reason_to_do_anything() -> None:
    assert pending([ONE], [version_of(ONE), version_of(THREE)]) == []


@pytest.mark.parametrize("name", ["one.sql", "2026_one.sql", "20260101000000_o'ne.sql", "20260101000000_one.sql.bak"])
def test_a_file_that_is_no_migration_stops_the_release(name: str) -> None:
    with pytest.raises(HostError, match="not a migration's name"):
        pending([ONE, name], [])
