"""A release's migrations are applied in order, each with its row, and none after one that fails."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from zmanim_host.host import HostError
from zmanim_host.postgres import Server
from zmanim_host.release import migrations

ONE, TWO, THREE = ("20260101000000_one.sql", "20260102000000_two.sql", "20260103000000_three.sql")


@dataclass(frozen=True)
class Database(Server):
    """psql as it answers: what was applied, and each call."""

    applied: list[str] = field(default_factory=list)
    fails: str = ""
    half: bool = False
    calls: list[tuple[str, ...]] = field(default_factory=list)

    def psql(self, *arguments: str, database: str = "", timeout: float, input: str | None = None) -> str:
        self.calls.append(arguments)
        if input == migrations.REMAINS:
            return "unfinished 2026\n" if self.half else ""
        if "--single-transaction" not in arguments:
            return "\n".join(self.applied)
        assert input == migrations.STEPS
        if self.fails and any(self.fails in each for each in arguments):
            raise HostError("psql: exit code 3: syntax error")
        self.applied.append(next(each for each in arguments if each.startswith("--set=version=")).rpartition("=")[2])
        return ""


@pytest.fixture
def release(tmp_path: Path) -> Path:
    for name in (TWO, THREE, ONE):
        (tmp_path / name).write_text("SELECT 1;")
    return tmp_path


def test_what_is_pending_is_applied_in_order_each_with_its_row(release: Path) -> None:
    database = Database(applied=["20260101000000_one"])
    assert migrations.migrate(release, database) == [TWO, THREE]
    assert database.applied == ["20260101000000_one", "20260102000000_two", "20260103000000_three"]
    for call, name in zip(database.calls[1:], (TWO, THREE), strict=True):
        # Its own row and all of the file, in one transaction.
        assert call == (
            "--single-transaction",
            "--file=-",
            f"--set=version={name.removesuffix('.sql')}",
            f"--set=file={release / name}",
        )
    assert migrations.migrate(release, database) == []


def test_after_a_migration_that_fails_none_is_tried(release: Path) -> None:
    database = Database(fails="two")
    with pytest.raises(HostError, match=rf"the migration {TWO} failed and was rolled back: psql: .*syntax error"):
        migrations.migrate(release, database)
    assert database.applied == ["20260101000000_one"]
    assert not any(THREE in each for call in database.calls for each in call)


@pytest.mark.incident("a migration with its own COMMIT left half of itself, and was said to be rolled back")
def test_one_that_got_past_the_rule_and_left_half_of_itself_is_not_said_to_be_rolled_back(release: Path) -> None:
    with pytest.raises(
        HostError, match=rf"the migration {TWO} failed and had ended its own transaction, so HALF OF IT"
    ):
        migrations.migrate(release, Database(fails="two", half=True))


@pytest.mark.incident("a migration with its own COMMIT left half of itself, and was said to be rolled back")
def test_before_one_that_can_t_be_a_transaction_nothing_is_applied(release: Path) -> None:
    (release / THREE).write_text("CREATE TABLE a ();\nCOMMIT;\n")
    database = Database(applied=["20260101000000_one"])
    with pytest.raises(HostError, match=rf"can't be applied: {THREE}, line 2: COMMIT"):
        migrations.migrate(release, database)
    assert database.applied == ["20260101000000_one"]
    assert migrations.migrate(release, Database(applied=["20260101", THREE[:14]])) == [ONE, TWO], "a past one is past"


def test_after_an_automatic_rollback_no_sql_is_run_and_what_is_left_is_named(
    release: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    database = Database(applied=["20260101000000_one", "20260102000000_two"])
    assert migrations.migrate(release, database, may_change=False) == []
    assert database.calls == [("--command=SELECT version FROM public.schema_migrations",)]
    assert f"runs no SQL: {THREE}" in capsys.readouterr().err


def test_a_release_without_migrations_is_not_whole(tmp_path: Path) -> None:
    database = Database()
    with pytest.raises(HostError, match="the release is not whole"):
        migrations.migrate(tmp_path, database)
    assert database.calls == []
