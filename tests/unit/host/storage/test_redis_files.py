"""Redis's append-only file: a torn tail is Redis's own business, anything else is kept and replaced by the snapshot."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zmanim_host import readiness
from zmanim_host.host import HostError
from zmanim_host.storage.redis_files import (
    BASE,
    FOLDER,
    MANIFEST,
    MAX_DAMAGED,
    Check,
    damaged_files,
    fall_back,
    is_torn,
    keep_tail,
    last_file,
    prepare,
    torn_tails,
    watch_kept,
)

INCR = "appendonly.aof.1.incr.aof"
NAMED = f"file {BASE} seq 1 type b\nfile {INCR} seq 1 type i\n"


def command(*words: bytes) -> bytes:
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


COMMANDS = [command(b"SET", b"key%d" % number, b"value") for number in range(20)]
WHOLE = b"".join(COMMANDS)


def volume(tmp_path: Path, content: bytes = WHOLE, snapshot: str | None = "REDIS good") -> Path:
    folder = tmp_path / FOLDER
    folder.mkdir()
    (folder / BASE).write_text("REDIS good, old")
    (folder / INCR).write_bytes(content)
    (folder / MANIFEST).write_text(NAMED)
    if snapshot is not None:
        (tmp_path / "dump.rdb").write_text(snapshot)
    return tmp_path


def checker(whole: int = len(WHOLE)) -> Check:
    """Return redis-check-aof, as it answers when the last file is whole up to a byte and a base is good or not."""

    def check(manifest: Path) -> tuple[int, str]:
        base = (manifest.parent / BASE).read_text()
        if not base:
            return 0, f"BASE AOF {BASE} is empty\n"
        if "good" not in base:
            return 1, "--- RDB ERROR DETECTED ---\nRDB preamble of AOF file is not sane, aborting.\n"
        output = f"AOF analyzed: filename={BASE}, size=10, ok_up_to=10, ok_up_to_line=1, diff=0\n"
        incr = manifest.parent / INCR
        size = incr.stat().st_size if incr.exists() else 0
        if size <= whole:
            return 0, f"{output}All AOF files and manifest are valid\n"
        diff = size - whole
        return (
            1,
            f"{output}AOF analyzed: filename={INCR}, size={size}, ok_up_to={whole}, ok_up_to_line=9, diff={diff}\n",
        )

    return check


@given(st.integers(min_value=1, max_value=len(WHOLE)))
def test_a_file_that_stops_anywhere_within_a_command_is_torn(size: int) -> None:
    begins = max(len(b"".join(COMMANDS[:count])) for count in range(21) if len(b"".join(COMMANDS[:count])) <= size)
    if begins < size:
        assert is_torn(WHOLE[:size], begins)


@pytest.mark.parametrize(
    "tail",
    [
        pytest.param(bytes(50), id="zeros"),
        pytest.param(WHOLE.replace(b"$5\r\nvalue", b"$7\r\nvalue", 1), id="a length that ends within the next command"),
        pytest.param(WHOLE.replace(b"$5\r\nvalue", b"$99999\r\nvalue", 1), id="a length beyond the end of the file"),
        pytest.param(WHOLE.replace(b"*3", b"*9", 1), id="a wrong count"),
        pytest.param(WHOLE.replace(b"value\r\n", b"value\r\xff", 1), id="no end of a value"),
    ],
)
def test_what_contradicts_the_format_is_damage_and_no_torn_tail(tail: bytes) -> None:
    assert not is_torn(WHOLE + tail, len(WHOLE))
    assert not is_torn(WHOLE + tail + COMMANDS[0][:-4], len(WHOLE))


def test_whole_commands_that_are_refused_for_another_reason_are_no_torn_tail() -> None:
    assert not is_torn(WHOLE + WHOLE, len(WHOLE))


def test_a_transaction_that_never_ends_is_a_torn_tail() -> None:
    assert is_torn(WHOLE + command(b"MULTI") + command(b"SET", b"a", b"b"), len(WHOLE))


def test_the_last_file_is_the_one_that_redis_writes_to() -> None:
    assert last_file(f"{NAMED}file old.aof seq 0 type h\n") == INCR
    assert last_file("") is None


def test_a_sound_file_stays_as_it_is(tmp_path: Path) -> None:
    data = volume(tmp_path)
    prepare(data, checker())
    assert (data / FOLDER / INCR).read_bytes() == WHOLE
    assert damaged_files(data) == []


def test_a_torn_tail_is_left_to_redis_and_kept_for_whoever_wants_to_know_what_it_was(tmp_path: Path) -> None:
    data = volume(tmp_path, WHOLE + COMMANDS[0][:-4])
    prepare(data, checker())
    assert (data / FOLDER / INCR).read_bytes() == WHOLE + COMMANDS[0][:-4]
    assert damaged_files(data) == []
    (kept,) = torn_tails(data)
    assert (kept.read_bytes(), kept.stat().st_mode & 0o777) == (COMMANDS[0][:-4], 0o600)
    # Redis did not come so far as to cut it off.
    prepare(data, checker())
    assert torn_tails(data) == [kept]
    with pytest.raises(HostError, match=f"ended within a command and Redis cut that off; kept: {kept}"):
        readiness.check_redis_files(data)
    kept.unlink()
    assert readiness.check_redis_files(data) == ""


def test_the_newest_three_tails_are_kept(tmp_path: Path) -> None:
    days = iter(range(1, 6))
    for tail in (b"a", b"b", b"c", b"d", b"e"):
        keep_tail(tmp_path, tail, now=lambda: next(days) * 86400.0)
    assert [path.name for path in torn_tails(tmp_path)] == [f"torn-197001{day:02}T000000Z" for day in (4, 5, 6)]


def test_a_disk_that_takes_no_tail_keeps_redis_from_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = volume(tmp_path, WHOLE + COMMANDS[0][:-4])

    def full(*arguments: object, **options: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("zmanim_host.storage.redis_files.write_whole", full)
    prepare(data, checker())
    assert "what is cut off can't be kept: [Errno 28] No space left on device" in capsys.readouterr().err


DAMAGED = WHOLE + b"\xff" + WHOLE


def test_a_damaged_file_is_kept_whole_and_the_snapshot_takes_its_place(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    data = volume(tmp_path, DAMAGED)
    prepare(data, checker())
    (copy,) = damaged_files(data)
    assert re.fullmatch(r"damaged-\d{8}T\d{6}Z", copy.name)
    assert (copy / INCR).read_bytes() == DAMAGED
    assert (data / FOLDER / BASE).read_text() == (data / "dump.rdb").read_text() == "REDIS good"
    assert (data / FOLDER / MANIFEST).read_text() == f"file {BASE} seq 1 type b\n"
    output = capsys.readouterr().err
    assert "<3>ALARM: Redis's append-only file was damaged" in output
    assert str(copy) in output
    # And it is over with that: the next start finds nothing wrong.
    prepare(data, checker())
    assert damaged_files(data) == [copy]


@pytest.mark.parametrize("snapshot", [None, "", "REDIS bad"])
def test_without_a_valid_snapshot_nothing_is_changed_and_redis_must_not_start(
    tmp_path: Path, snapshot: str | None
) -> None:
    data = volume(tmp_path, DAMAGED, snapshot)
    with pytest.raises(HostError, match="Redis does not start, and nothing was changed"):
        prepare(data, checker())
    assert {path.name for path in data.iterdir()} == {FOLDER} | ({"dump.rdb"} if snapshot is not None else set())
    assert (data / FOLDER / INCR).read_bytes() == DAMAGED


@pytest.mark.fault(
    26,
    injected="a restored dump.rdb and no append-only file",
    must="it becomes the base of one, so that Redis does not start empty",
)
@pytest.mark.incident("a restored dump.rdb beside no append-only file came up as 0 keys, and was overwritten")
def test_a_restored_snapshot_becomes_the_base_of_the_append_only_file(tmp_path: Path) -> None:
    (tmp_path / "dump.rdb").write_text("REDIS good")
    prepare(tmp_path, checker())
    assert (tmp_path / FOLDER / BASE).read_text() == "REDIS good"
    assert damaged_files(tmp_path) == []


def test_a_run_that_was_cut_between_its_two_renames_is_finished_by_the_next(tmp_path: Path) -> None:
    data = volume(tmp_path, DAMAGED)
    (data / FOLDER).rename(data / "damaged-20260101T000000Z")
    (data / f".{FOLDER}.unfinished").mkdir()
    prepare(data, checker())
    assert (data / FOLDER / BASE).exists()
    assert len(damaged_files(data)) == 1


def test_a_manifest_that_lost_its_content_is_not_taken_for_an_empty_redis(tmp_path: Path) -> None:
    data = volume(tmp_path)
    (data / FOLDER / MANIFEST).write_text("")
    prepare(data, lambda manifest: (0, "All AOF files and manifest are valid\n"))
    assert len(damaged_files(data)) == 1


def test_a_volume_on_which_redis_never_served_begins_empty(tmp_path: Path) -> None:
    prepare(tmp_path, lambda manifest: pytest.fail("there is nothing to check"))
    # The first start of all was cut short: a base and no manifest yet.
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / BASE).write_text("REDIS good")
    (tmp_path / FOLDER / INCR).touch()
    prepare(tmp_path, lambda manifest: pytest.fail("there is nothing to check"))
    assert damaged_files(tmp_path) == []


def test_without_any_file_but_with_a_kept_one_redis_does_not_begin_empty(tmp_path: Path) -> None:
    (tmp_path / "damaged-20260101T000000Z").mkdir()
    with pytest.raises(HostError, match=r"there is no .*dump\.rdb"):
        prepare(tmp_path, checker())


def test_a_check_that_comes_to_no_end_leaves_the_verdict_to_redis(tmp_path: Path) -> None:
    def hangs(manifest: Path) -> tuple[int, str]:
        raise HostError("redis-check-aof: no end after 300 s")

    data = volume(tmp_path, DAMAGED)
    prepare(data, hangs)
    assert (data / FOLDER / INCR).read_bytes() == DAMAGED


def test_the_newest_three_damaged_files_are_kept(tmp_path: Path) -> None:
    data = volume(tmp_path)
    days = iter(range(1, 6))
    for _ in range(5):
        fall_back(data, "damaged", checker(), now=lambda: next(days) * 86400.0)
    assert [path.name for path in damaged_files(data)] == [f"damaged-197001{day:02}T000000Z" for day in (4, 5, 6)]
    assert MAX_DAMAGED == 3


def test_the_alarm_is_on_for_as_long_as_a_damaged_file_is_kept(tmp_path: Path) -> None:
    assert readiness.check_redis_files(tmp_path) == ""
    copy = tmp_path / "damaged-20260101T000000Z"
    copy.mkdir()
    with pytest.raises(HostError, match="damaged-20260101T000000Z"):
        readiness.check_redis_files(tmp_path)
    copy.rmdir()
    assert readiness.check_redis_files(tmp_path) == ""


def test_kept_files_are_told_of_until_they_are_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    watch_kept(tmp_path, sleep=lambda seconds: pytest.fail("nothing is kept"))
    assert capsys.readouterr() == ("", "")
    (tmp_path / "damaged-20260101T000000Z").mkdir()
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            (tmp_path / "damaged-20260102T000000Z").mkdir()

    watch_kept(tmp_path, sleep)
    assert len(looks) == 3
    output = "".join(capsys.readouterr())
    assert output.count("ALARM") == 1
    assert str(tmp_path / "damaged-20260101T000000Z") in output


@pytest.mark.incident("snapshots that a killed Redis had not finished stayed, and filled the volume")
def test_what_a_killed_redis_had_not_finished_goes_and_nothing_else(tmp_path: Path) -> None:
    data = volume(tmp_path)
    kept = {path.name for path in data.iterdir()}
    for name in ("temp-123.rdb", "temp-1764.99.rdb", "temp-rewriteaof-bg-7.aof", "temp-rewriteaof-7.aof"):
        (data / name).write_text("half")
    prepare(data, lambda manifest: (0, ""))
    assert {path.name for path in data.iterdir()} == kept
