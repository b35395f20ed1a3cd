"""What the backup's benchmark reads from a machine, and what it compares."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from zmanim_ami.bench import backup, peaks
from zmanim_ami.bench.figures import Series


def test_memory_is_that_of_all_processes_and_one_that_has_ended_holds_none(tmp_path: Path) -> None:
    for pid, kilobytes in (("7", 100), ("8", 23)):
        (tmp_path / pid).mkdir()
        (tmp_path / pid / "smaps_rollup").write_text(f"Rss:  999 kB\nPss:  {kilobytes} kB\nPss_Anon: 9 kB\n")
    assert peaks.held([7, 8, 9], proc=tmp_path) == 123 * 1024


def test_a_unit_s_processes_are_those_of_its_group_and_none_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "a.service").mkdir()
    (tmp_path / "a.service/cgroup.procs").write_text("12\n34\n")
    assert peaks.processes("a.service", tmp_path) == [12, 34]
    assert peaks.processes("b.service", tmp_path) == []


def test_a_file_without_a_name_is_found_by_who_has_it_open_and_counted_once() -> None:
    before = peaks.nameless([os.getpid()])
    with tempfile.TemporaryFile(buffering=0) as file:
        file.write(b"x" * 1_000_000)
        os.fsync(file.fileno())
        result = peaks.nameless([os.getpid(), os.getpid()]) - before
    assert 1_000_000 <= result < 1_500_000
    assert peaks.nameless([os.getpid()]) == before


def test_what_a_directory_takes_is_its_files(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    before = peaks.taken(tmp_path)
    with (tmp_path / "deep/file").open("wb") as file:
        file.write(b"x" * 1_000_000)
        os.fsync(file.fileno())
    assert 1_000_000 <= peaks.taken(tmp_path) - before < 1_500_000
    assert peaks.taken(tmp_path / "none") == 0


def test_ours_is_compared_with_copies_by_pg_dump_which_the_goal_is_about() -> None:
    stored = [f"stored {how}: {way} (MB)" for how in ("together", "scattered") for way in backup.WAYS.values()]
    timed = ["first backup", "next backup", "pg_dump | cat", "restore", "pg_restore alone"]
    timed += ["extra disk on /data (MB)", "Redis's file (MB)"]
    values = dict.fromkeys((*stored, *timed), (1.0,)) | {"stored together: pg_dump -Fc copies (MB)": (4.0,)}
    result = backup.ratios(tuple(Series(name, value) for name, value in values.items()))
    goals = {each.name: each.value for each in result if each.goal == "at most 0.5"}
    assert goals == {
        "stored together: ours (MB) / stored together: pg_dump -Fc copies (MB)": 0.25,
        "stored scattered: ours (MB) / stored scattered: pg_dump -Fc copies (MB)": 1.0,
    }


def test_a_hundredth_of_the_rows_changes_every_night() -> None:
    assert backup.change("together", 3).count("id BETWEEN 3 * 2000 + 1 AND (3 + 1) * 2000") == 1
    assert backup.change("scattered", 3).count("id % 100 = 3") == 1
