"""The steps of a backup: what is refused, what makes a run complete, in which order runs go."""

from __future__ import annotations

import json
import os
from dataclasses import replace as changed
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.support.backup_parts import (
    AT,
    VERSIONS,
    FakeRepository,
    FakeServer,
    begun,
    night,
    part_values,
)
from tests.support.programs import arguments, on_path
from zmanim_host.backup.retention import Run
from zmanim_host.backup.steps import Backup, run_step
from zmanim_host.host import HostError, locked
from zmanim_host.storage import swap

SUNDAY = AT - timedelta(days=2)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Programs of this image's versions; what the AWS CLI is asked is metrics."""
    return on_path(tmp_path / "programs", monkeypatch, {**VERSIONS, "aws": ""})


@pytest.fixture
def work(tmp_path: Path, programs: Path) -> Path:
    (tmp_path / "work").mkdir()
    return tmp_path / "work"


def backup(*known: Run, work: Path = Path("/nowhere")) -> Backup:
    return Backup(FakeRepository(known=list(known)), "i-1", FakeServer(), work, lambda: AT)


def calls(of: Backup) -> list[str]:
    """What restic was asked to do, less the listing of runs."""
    assert isinstance(of.repository, FakeRepository)
    return of.repository.calls


def sent(programs: Path) -> list[str]:
    """The names of the metrics that were sent."""
    words = [call for call in arguments(programs, "aws") if "--metric-data" in call]
    return [each["MetricName"] for call in words for each in json.loads(call[call.index("--metric-data") + 1])]


@pytest.mark.incident("an empty instance beside production pushed production's backups out")
def test_another_cluster_s_repository_is_not_begun_in(work: Path) -> None:
    ours = backup(night(1, system="88"), work=work)
    with pytest.raises(HostError, match="are of cluster 88"):
        ours.begin()
    assert list(work.iterdir()) == []
    assert calls(ours) == []


def test_a_run_does_not_begin_where_a_database_is_missing(work: Path) -> None:
    class Without(FakeServer):
        def databases(self) -> list[str]:
            raise HostError("the database zmanim is not there")

    ours = changed(backup(work=work), server=Without())
    with pytest.raises(HostError, match="zmanim is not there"):
        ours.begin()
    assert list(work.iterdir()) == []


def test_a_run_does_not_begin_beside_an_exchange_that_was_cut_short(work: Path) -> None:
    swap.begin(work.parent, "r")
    with pytest.raises(HostError, match="for run r was cut short"):
        backup(work=work).begin()
    assert list(work.iterdir()) == []


def test_a_run_begins_with_what_a_killed_one_left_removed(work: Path) -> None:
    begun(work, "redis")
    (work / "redis.rdb").write_text("half")
    ours = backup(work=work)
    ours.begin()
    assert [path.name for path in (work / "run").iterdir()] == ["begun"]
    assert calls(ours) == []
    assert not (work / "redis.rdb").exists()
    assert ours.begun().system_identifier == "77"


PARTS = ("globals", "redis", "database=zmanim", "database=postgres")


@pytest.mark.parametrize("missing", PARTS)
def test_a_run_that_lacks_a_part_gets_no_record_and_no_metric(work: Path, programs: Path, missing: str) -> None:
    begun(work, *(set(PARTS) - {missing}))
    ours = backup(work=work)
    with pytest.raises(HostError, match=f"lacks {missing}"):
        ours.complete()
    assert (calls(ours), sent(programs)) == ([], [])


def test_the_record_is_the_last_snapshot_and_says_whose_it_is(work: Path, programs: Path) -> None:
    begun(work, *PARTS)
    ours = backup(work=work)
    ours.complete()
    (call,) = calls(ours)
    assert "--tag run:r1 --tag part:record --tag system:77 --stdin --stdin-filename /record.json" in call
    begun(work, *PARTS)
    (work / "volume").write_text("vol-1")
    of_a_volume = changed(backup(work=work), volume_file=work / "volume")
    of_a_volume.complete()
    assert "--tag system:77 --tag volume:vol-1 " in calls(of_a_volume)[0]
    assert sent(programs) == 2 * ["BackupCompleted", "BackupSeconds", "BackupBytes"]
    assert not (work / "run").exists()
    # For the proof, whatever fails from here on.
    assert (work / "complete").exists()


def test_no_proof_follows_a_backup_of_a_machine_that_is_gone_in_an_hour(work: Path, programs: Path) -> None:
    begun(work, *PARTS)
    ours = changed(backup(work=work), repository=FakeRepository(environment="verify"))
    ours.complete()
    assert [path.name for path in work.iterdir()] == []


def retained(*runs: Run) -> list[str]:
    ours = backup()
    ours.apply_retention(runs)
    return calls(ours)


@pytest.mark.incident("--remove-all took locks that were held")
def test_a_killed_run_s_locks_go_by_restic_s_own_rule_and_only_in_our_own_repository(work: Path) -> None:
    ours = backup(night(1), work=work)
    ours.begin()
    assert calls(ours) == ["unlock"]


def test_records_go_before_their_parts() -> None:
    done = retained(night(0), night(0.05), night(3, complete=False))
    assert done == ["forget rec0.05", "forget db0.05 db3", "prune --quiet"]


def test_where_nothing_goes_nothing_is_locked_or_pruned() -> None:
    assert retained(night(0), night(1)) == []


def test_on_sundays_a_part_of_the_data_is_read() -> None:
    ours = changed(backup(), now=lambda: SUNDAY)
    ours.apply_retention([night(3)])
    assert calls(ours)[0] == "prune --quiet"
    assert calls(ours)[1].startswith("check --read-data-subset=")
    assert calls(ours)[1].endswith("/4")


def test_a_repository_that_is_gone_in_an_hour_is_not_checked_on_sundays() -> None:
    passing = FakeRepository(environment="verify")
    ours = changed(backup(), repository=passing, now=lambda: SUNDAY)
    ours.apply_retention([night(3)])
    assert calls(ours) == []


def test_a_run_that_is_complete_takes_the_place_of_the_one_before_it_that_day(work: Path, programs: Path) -> None:
    begun(work, *PARTS)
    # Itself is listed as cut short: its record is stored after that.
    ours = backup(night(0.05), night(1), Run("r1", AT, ("s",)), work=work)
    ours.complete()
    assert calls(ours)[1:] == ["forget rec0.05", "forget db0.05", "prune --quiet"]
    assert (work / "complete").exists()


def test_a_run_from_the_future_is_told_of_when_all_else_is_done() -> None:
    ours = backup()
    with pytest.raises(HostError, match="are dated in the future: -400"):
        ours.apply_retention([night(-400), night(0), night(0.05)])
    assert "forget rec0.05" in calls(ours)
    assert not [call for call in calls(ours) if "400" in call]


def test_a_run_is_dated_anew_its_record_last_and_never_into_the_future(work: Path) -> None:
    ours = backup(night(-400), night(0), work=work)
    ours.redate("-400", AT - timedelta(days=1))
    times = "rewrite --forget --new-time 2026-11-23 03:00:00"
    assert calls(ours) == [f"{times} db-400", f"{times} rec-400"]
    for name, at, words in (("-400", AT + timedelta(seconds=1), "is in the future"), ("no", AT, "there is no run no")):
        with pytest.raises(HostError, match=words):
            ours.redate(name, at)
    assert len(calls(ours)) == 2


@pytest.mark.parametrize(("proven", "stays"), [(AT - timedelta(days=3), True), (AT + timedelta(days=400), False)])
def test_a_run_that_is_dated_anew_was_proven_when_it_was(work: Path, proven: datetime, *, stays: bool) -> None:
    parts = (("database=zmanim", "db-400"), ("record", "rec-400"), ("proof", "proof-400"))
    known = changed(night(-400), snapshots=tuple(part[1] for part in parts), parts=parts, proven=proven)
    ours = backup(known, work=work)
    ours.redate("-400", AT - timedelta(days=1))
    redated = [call.rpartition(" ")[2] for call in calls(ours)]
    assert redated == ["db-400", *([] if stays else ["proof-400"]), "rec-400"]


def test_adopting_is_a_mark_in_the_repository_and_not_made_twice(work: Path) -> None:
    ours = backup(night(1, system="88"), work=work)
    ours.adopt()
    assert "--tag part:adoption --tag system:77" in calls(ours)[0]
    again = backup(night(1), work=work)
    again.adopt()
    assert calls(again) == []


@pytest.mark.incident("an adoption was undone by a run that was on its way already")
def test_an_adoption_while_a_run_is_on_its_way_leaves_that_run_without_a_record(work: Path, programs: Path) -> None:
    ours = backup(night(1), work=work)
    ours.begin()
    begun_run = ours.begun().run
    assert isinstance(ours.repository, FakeRepository)
    ours.repository.known.append(Run("a", AT - timedelta(minutes=1), ("a",), adoption=True, system="88"))
    for part in PARTS:
        (work / "run" / part).write_text(json.dumps(part_values(part)))
    with pytest.raises(HostError, match="are of cluster 88"):
        ours.complete()
    assert not [call for call in calls(ours) if begun_run in call]
    assert sent(programs) == []


@pytest.mark.incident("a nightly run spanned a --replace: its parts were of two clusters")
def test_a_run_that_began_with_another_cluster_gets_no_record(work: Path, programs: Path) -> None:
    class Replaced(FakeServer):
        def system_identifier(self) -> str:
            return "99"

    begun(work, *PARTS)
    ours = changed(backup(work=work), server=Replaced())
    with pytest.raises(HostError, match="began with cluster 77, and this machine has cluster 99 now"):
        ours.complete()
    assert (calls(ours), sent(programs)) == ([], [])


def test_nothing_is_adopted_beside_a_run(work: Path) -> None:
    ours = backup(night(1, system="88"), work=work)
    with locked(work), pytest.raises(HostError, match="another backup or restore is running"):
        ours.adopt()
    assert calls(ours) == []


def test_a_backup_that_can_t_have_its_turn_is_told_whose_it_is(work: Path) -> None:
    with locked(work), pytest.raises(HostError, match=f"process {os.getpid()}"):
        run_step(backup(work=work), ["refuse-turn"])
