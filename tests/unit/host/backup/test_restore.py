"""Which run is restored, and how the restored is compared with the record."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from zmanim_host.backup import restic, restore, servers, steps
from zmanim_host.backup.record import CompletionRecord, DatabasePart, GlobalsPart, RedisPart, to_json
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.retention import Run
from zmanim_host.backup.servers import Keys, Server, Survey, parse_survey
from zmanim_host.host import HostError

REPO = Repository("prod", "eu-west-1", "b", "s3:https://s3/b/restic", {})
AT = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
RECORD = CompletionRecord(
    run="whole",
    environment="prod",
    started=AT,
    finished=AT + timedelta(minutes=1),
    image_version="v1.2.3",
    instance_id="i-1",
    system_identifier="77",
    databases=(DatabasePart("zmanim", "s1", 10, {"public.cities": 3}, {"postgis": "3.5"}),),
    globals=GlobalsPart("s2", 5, ("postgres", "zmanim")),
    redis=RedisPart("s3", 7, "00", 4, 3),
    versions={"postgresql": "170012", "redis": "7.0.15", "restic": "0.19.1"},
)


def run(name: str, days: float, *, record: str | None = "r", adoption: bool = False) -> Run:
    return Run(name, AT + timedelta(days=days), ("s",), record, adoption, "77")


@pytest.fixture
def known(monkeypatch: pytest.MonkeyPatch) -> list[Run]:
    found: list[Run] = []
    monkeypatch.setattr(restic, "runs", lambda repo: found)
    monkeypatch.setattr(restic, "read", lambda repo, snapshot, path: to_json(replace(RECORD, run=snapshot)))
    monkeypatch.setattr(steps, "now", lambda: AT + timedelta(days=10))
    return found


@pytest.mark.incident("`restic dump latest` returned what an unfinished run, or one from the future, had stored")
def test_the_latest_is_the_newest_complete_run_that_is_not_from_the_future(known: list[Run]) -> None:
    known += [
        run("old", 1, record="old"),
        run("whole", 2, record="whole"),
        run("cut", 3, record=None),
        run("adopted", 4, record=None, adoption=True),
        run("future", 99, record="future"),
    ]
    assert restore.choose(REPO, "").run == "whole"
    assert restore.choose(REPO, "old").run == "old"
    for name, words in (("cut", "was cut short"), ("adopted", "there is no run"), ("other", "there is no run")):
        with pytest.raises(HostError, match=words):
            restore.choose(REPO, name)


def test_nothing_complete_is_nothing_to_restore(known: list[Run]) -> None:
    known.append(run("cut", 1, record=None))
    with pytest.raises(HostError, match="no complete run"):
        restore.choose(REPO, "")


@pytest.mark.parametrize(
    ("postgresql", "redis", "refused"),
    [
        ("170004", "7.2.1", ""),
        ("180001", "8.0", ""),
        ("160009", "7.2", "PostgreSQL 17"),
        ("170012", "6.2.7", "Redis 7"),
    ],
)
def test_a_backup_of_a_newer_major_is_refused(postgresql: str, redis: str, refused: str) -> None:
    if refused:
        with pytest.raises(HostError, match=refused):
            restore.check_versions(RECORD, postgresql, redis)
    else:
        restore.check_versions(RECORD, postgresql, redis)


def compare(monkeypatch: pytest.MonkeyPatch, survey: Survey, roles: tuple[str, ...] = ("postgres", "zmanim")) -> str:
    monkeypatch.setattr(servers, "survey", lambda server, name: survey)
    monkeypatch.setattr(servers, "roles", lambda server: roles)
    return "; ".join(restore.compare_postgresql(RECORD, Server()))


def test_every_difference_in_postgresql_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    good = Survey({"public.cities": 3}, {"postgis": "3.6"})
    assert compare(monkeypatch, good) == ""
    assert "cities has 2 rows, not 3" in compare(monkeypatch, Survey({"public.cities": 2}, good.extensions))
    assert "cities has None rows, not 3" in compare(monkeypatch, Survey({}, good.extensions))
    assert "extra has 1 rows, not None" in compare(monkeypatch, Survey({**good.rows, "extra": 1}, good.extensions))
    assert "extensions []" in compare(monkeypatch, Survey(good.rows, {}))
    assert "roles are missing: zmanim" in compare(monkeypatch, good, ("postgres",))


def test_redis_has_every_lasting_key_and_those_whose_time_is_not_over() -> None:
    def wrong(keyspace: str, before: int = 0, after: int = 0) -> list[str]:
        return restore.compare_redis(RECORD, keyspace, Keys(4, 3, before), Keys(4, 3, after))

    assert wrong("db0:keys=5,expires=2,avg_ttl=1\ndb3:keys=2,expires=1,avg_ttl=1") == []
    assert wrong("db0:keys=6,expires=2", before=1, after=1) == []
    assert wrong("db0:keys=6,expires=2", before=0, after=1) == []
    assert "2 keys with an expiry, not 3 to 3" in wrong("db0:keys=6,expires=2")[0]
    assert "3 keys without expiry, not 4" in wrong("db0:keys=6,expires=3")[0]
    assert len(wrong("")) == 2


def test_replace_has_to_be_meant(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(restic, "repository", lambda environ: REPO)
    monkeypatch.setattr(restic, "check_reachable", lambda repo: None)
    with pytest.raises(HostError, match="--yes"):
        restore.command(["--latest", "--replace"])


def test_a_survey_is_read_whatever_a_table_is_called() -> None:
    lines = [
        json.dumps(row) for row in (["snapshot", "1-2", ""], ["rows", 'public."a|b\n"', 3], ["extension", "v", "1"])
    ]
    assert parse_survey(lines) == Survey({'public."a|b\n"': 3}, {"v": "1"}, "1-2")


def test_another_cluster_s_backups_are_not_written_to(tmp_path: Path) -> None:
    known = [run("whole", 1, record="r")]
    steps.check_owner(REPO, known, "77", AT + timedelta(days=2))
    steps.check_owner(REPO, [], "88", AT)
    with pytest.raises(HostError, match=r"are of cluster 77, and this machine has cluster 88: nothing was written"):
        steps.check_owner(REPO, known, "88", AT + timedelta(days=2))
