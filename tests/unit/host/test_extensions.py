"""An extension's catalogue follows the image when going back to the one before is over, and what lags is named."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support import ROOT
from zmanim_host.extensions import NAME, PROMISED_DAYS, Wait, check, follow, read
from zmanim_host.host import HostError
from zmanim_host.postgres import Server

DAY = 86400.0
BEGIN = 1_800_000_000.0
AFTERWARDS = BEGIN + PROMISED_DAYS * DAY
TRGM = ("pg_trgm", "1.3", "1.6", True)


@dataclass(frozen=True)
class Database(Server):
    """A server with these extensions of another image; `refusal` is what it says to an update."""

    rows: list[tuple[str, str, str, bool]] = field(default_factory=lambda: [TRGM])
    refusal: str = ""
    updated: list[str] = field(default_factory=list)

    def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
        assert database == "zmanim"
        return [json.dumps(row) for row in self.rows]

    def psql(self, *arguments: str, database: str = "zmanim", timeout: float, input: str | None = None) -> str:
        assert input
        if self.refusal:
            raise HostError(self.refusal)
        values = dict(word.partition("=")[2].split("=") for word in arguments)
        self.updated.append(f"{values['name']} {values['installed']} {values['offered']}")
        self.rows[:] = [row for row in self.rows if row[0] != values["name"]]
        return ""


@pytest.mark.incident("pg_trgm was 1.3 under an image's 1.6, and nobody said so")
def test_an_extension_follows_when_going_back_is_over_and_not_before(tmp_path: Path) -> None:
    database = Database()
    follow(database, tmp_path, BEGIN)
    follow(database, tmp_path, AFTERWARDS - 1)
    assert database.updated == []
    words = check(database, tmp_path, AFTERWARDS - 1)
    assert words == "pg_trgm is 1.3, this image has 1.6, and follows after 2027-01-29"
    follow(database, tmp_path, AFTERWARDS)
    assert database.updated == ["pg_trgm 1.3 1.6"]
    assert check(database, tmp_path, AFTERWARDS) == ""
    assert read(tmp_path) == {}


def test_another_version_begins_its_time_anew_and_so_does_one_after_an_older_image(tmp_path: Path) -> None:
    follow(Database(), tmp_path, BEGIN)
    newer = Database(rows=[("pg_trgm", "1.3", "1.7", True)])
    follow(newer, tmp_path, AFTERWARDS)
    assert read(tmp_path) == {"pg_trgm": Wait("1.7", AFTERWARDS)}
    follow(Database(rows=[]), tmp_path, AFTERWARDS)  # the image before
    follow(newer, tmp_path, AFTERWARDS + DAY)
    assert read(tmp_path)["pg_trgm"].since == AFTERWARDS + DAY


def test_a_date_of_a_wrong_clock_begins_anew(tmp_path: Path) -> None:
    follow(Database(), tmp_path, AFTERWARDS)
    follow(Database(), tmp_path, BEGIN)
    assert read(tmp_path)["pg_trgm"].since == BEGIN


def test_one_that_can_t_be_updated_stays_and_is_named_with_the_reason(tmp_path: Path) -> None:
    database = Database(refusal="psql: exit code 3: ERROR:  its script might run\nCONTEXT:  PL/pgSQL")
    follow(database, tmp_path, BEGIN)
    follow(database, tmp_path, AFTERWARDS)
    with pytest.raises(HostError, match=r"^pg_trgm is 1\.3, this image has 1\.6: .* its script might run CONTEXT"):
        check(database, tmp_path, AFTERWARDS)
    assert read(tmp_path)["pg_trgm"].since == BEGIN, "it is tried again at the next start"


def test_what_should_have_followed_and_what_is_of_a_newer_image_is_named(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"it follows when zmanim-database\.service starts"):
        check(Database(), tmp_path, BEGIN)
    follow(Database(), tmp_path, BEGIN)
    older = ("postgis", "3.5.3", "3.5.2", False)
    database = Database(rows=[older, TRGM])
    follow(database, tmp_path, AFTERWARDS - 1)
    with pytest.raises(HostError) as lagging:
        check(database, tmp_path, AFTERWARDS - 1)
    assert str(lagging.value).startswith(
        "postgis is 3.5.3, this image has 3.5.2: the database is of a newer image; pg_"
    )
    assert database.updated == []


@pytest.mark.parametrize("content", ["{", "[]", '{"pg_trgm": {}}', '{"pg_trgm": 1}'])
def test_a_file_that_can_t_be_understood_begins_the_time_anew(tmp_path: Path, content: str) -> None:
    (tmp_path / NAME).write_text(content)
    follow(Database(), tmp_path, AFTERWARDS)
    assert read(tmp_path) == {"pg_trgm": Wait("1.6", AFTERWARDS)}


def test_the_promise_of_the_page_is_the_code_s() -> None:
    page = (ROOT / "docs/on-aws.md").read_text()
    assert f"**Going back**: for {PROMISED_DAYS} days" in page
