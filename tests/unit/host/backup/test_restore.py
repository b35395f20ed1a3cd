"""Which run is restored, and how the restored is compared with the record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.support.backup_parts import AT, ENVIRON, RECORD, FakeRepository
from zmanim_host.backup import loading, restore
from zmanim_host.backup.record import to_json
from zmanim_host.backup.retention import Owner, Run
from zmanim_host.backup.steps import Backup
from zmanim_host.host import HostError
from zmanim_host.postgres import Survey, parse_survey
from zmanim_host.storage.redis_files import Keys


def run(name: str, days: float, *, record: str | None = "r", adoption: bool = False) -> Run:
    return Run(name, AT + timedelta(days=days), ("s",), record, adoption, "77")


class Listed(FakeRepository):
    """A repository in which each record is called like its run."""

    def read(self, snapshot: str, path: str) -> str:
        return to_json(replace(RECORD, run=snapshot))


def choose(known: list[Run], wanted: str) -> str:
    return restore.choose(Listed(known=known), wanted, AT + timedelta(days=10)).run


@pytest.mark.incident("`restic dump latest` returned what an unfinished run, or one from the future, had stored")
def test_the_latest_is_the_newest_complete_run_that_is_not_from_the_future() -> None:
    known = [
        run("old", 1, record="old"),
        run("whole", 2, record="whole"),
        run("cut", 3, record=None),
        run("adopted", 4, record=None, adoption=True),
        run("future", 99, record="future"),
    ]
    assert choose(known, "") == "whole"
    assert choose(known, "old") == "old"
    for name, words in (("cut", "was cut short"), ("adopted", "is an adoption"), ("other", "there is no run")):
        with pytest.raises(HostError, match=words):
            choose(known, name)


def test_nothing_complete_is_nothing_to_restore() -> None:
    with pytest.raises(HostError, match="no complete run"):
        choose([run("cut", 1, record=None)], "")


@pytest.mark.parametrize(
    ("postgresql", "redis", "refused"),
    [
        (17, "7.2.1", ""),
        (18, "8.0", ""),
        (16, "7.2", "PostgreSQL 17"),
        (17, "6.2.7", "Redis 7"),
    ],
)
def test_a_backup_of_a_newer_major_is_refused(postgresql: int, redis: str, refused: str) -> None:
    if refused:
        with pytest.raises(HostError, match=refused):
            restore.check_versions(RECORD, postgresql, redis)
    else:
        restore.check_versions(RECORD, postgresql, redis)


def compare(survey: Survey) -> str:
    return "; ".join(loading.compare(RECORD.databases[0], survey, 0))


def test_every_difference_in_postgresql_is_told() -> None:
    good = Survey({"public.cities": 3}, {"postgis": "3.6"})
    assert compare(good) == ""
    assert "cities has 2 rows, not 3" in compare(Survey({"public.cities": 2}, good.extensions))
    assert "cities has None rows, not 3" in compare(Survey({}, good.extensions))
    assert "extra has 1 rows, not None" in compare(Survey({**good.rows, "extra": 1}, good.extensions))
    assert "extensions []" in compare(Survey(good.rows, {}))
    # What pg_cron wrote down of its runs is not restored; without it such a table is like any other.
    details = Survey({**good.rows, "cron.job_run_details": 9}, {**good.extensions, "pg_cron": "1.6"})
    part = replace(RECORD.databases[0], extensions={"postgis": "3.5", "pg_cron": "1.6"})
    assert loading.compare(part, details, 0) == []
    assert "job_run_details has 9 rows, not None" in compare(replace(details, extensions=good.extensions))


def test_redis_has_every_lasting_key_and_those_whose_time_is_not_over() -> None:
    def wrong(keyspace: str, before: int = 0, after: int = 0) -> list[str]:
        return restore.compare_redis(RECORD, keyspace, Keys(4, 3, before), Keys(4, 3, after))

    assert wrong("db0:keys=5,expires=2,avg_ttl=1\ndb3:keys=2,expires=1,avg_ttl=1") == []
    assert wrong("db0:keys=6,expires=2", before=1, after=1) == []
    assert wrong("db0:keys=6,expires=2", before=0, after=1) == []
    assert "2 keys with an expiry, not 3 to 3" in wrong("db0:keys=6,expires=2")[0]
    assert "3 keys without expiry, not 4" in wrong("db0:keys=6,expires=3")[0]
    assert len(wrong("")) == 2


def test_replace_has_to_be_meant_and_a_restore_is_root_s(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "password").write_text("secret")
    for name, value in {**ENVIRON, "RESTIC_PASSWORD_FILE": str(tmp_path / "password")}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(HostError, match="--yes"):
        restore.command(["--latest", "--replace"], uid=0)
    with pytest.raises(HostError, match="root's to start"):
        restore.command(["--latest"], uid=403)


def test_a_survey_is_read_whatever_a_table_is_called() -> None:
    lines = [
        json.dumps(row) for row in (["snapshot", "1-2", ""], ["rows", 'public."a|b\n"', 3], ["extension", "v", "1"])
    ]
    assert parse_survey(lines) == Survey({'public."a|b\n"': 3}, {"v": "1"}, "1-2")


def test_another_cluster_s_backups_are_not_written_to() -> None:
    known = [run("whole", 1, record="r")]
    backup = Backup(FakeRepository(), "i-1", now=lambda: AT + timedelta(days=2))
    backup.check_owner(known, Owner("77", "vol-1"))
    backup.check_owner([], Owner("88"))
    with pytest.raises(HostError, match=r"are of cluster 77, and this machine has cluster 88: nothing was written"):
        backup.check_owner(known, Owner("88", "vol-1"))


@pytest.mark.incident("a machine on a copy of the volume pushed production's backups out, and hid their silence")
def test_a_copy_of_the_volume_is_refused_and_told_how_to_go_on_all_the_same() -> None:
    known = [replace(run("whole", 1, record="r"), volume="vol-1")]
    backup = Backup(FakeRepository(), "i-1", now=lambda: AT + timedelta(days=2))
    backup.check_owner(known, Owner("77", "vol-1"))
    with pytest.raises(HostError, match=r"of the volume vol-1, and .* on vol-2, a copy: nothing was .*backup\.adopt"):
        backup.check_owner(known, Owner("77", "vol-2"))
    with pytest.raises(HostError, match="on another, a copy"):
        backup.check_owner(known, Owner("77"))


def test_an_operator_sees_which_runs_can_be_restored(capsys: pytest.CaptureFixture[str]) -> None:
    runs = [run("old", 1), run("cut", 2, record=None), run("late", 99), run("ours", 3, record=None, adoption=True)]
    restore.show_runs(runs, AT + timedelta(days=5), as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == ["late", "ours", "cut", "old"]
    assert [line.split()[2] for line in lines] == ["complete", "adoption", "incomplete", "complete"]
    assert ["FUTURE" in line for line in lines] == [True, False, False, False]
    restore.show_runs(runs, AT + timedelta(days=5), as_json=True)
    assert [row["state"] for row in json.loads(capsys.readouterr().out)][2] == "incomplete"
