"""Room that is kept on the data volume, and given up once the volume is full."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from zmanim_host.storage import reserve

MIB = 1 << 20


def free(monkeypatch: pytest.MonkeyPatch, mib: int) -> None:
    monkeypatch.setattr(reserve, "free_bytes", lambda data: mib * MIB)


def test_it_takes_its_room_at_once_and_a_second_boot_changes_nothing(tmp_path: Path) -> None:
    for _ in range(2):
        assert reserve.keep(tmp_path, MIB)
        made = (tmp_path / reserve.NAME).stat()
        assert (made.st_size, made.st_blocks * 512 >= MIB, made.st_mode & 0o777) == (MIB, True, 0o600)


def test_what_a_power_cut_left_half_is_made_whole(tmp_path: Path) -> None:
    (tmp_path / reserve.NAME).touch()
    assert reserve.keep(tmp_path, MIB)
    assert (tmp_path / reserve.NAME).stat().st_blocks * 512 >= MIB


def test_one_that_is_there_stays_on_a_volume_that_is_nearly_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reserve.keep(tmp_path, MIB)
    free(monkeypatch, 1)
    assert reserve.keep(tmp_path, MIB)


def test_where_there_is_little_room_none_is_made_and_the_boot_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free(monkeypatch, 3)
    assert not reserve.keep(tmp_path, MIB)
    assert not (tmp_path / reserve.NAME).exists()
    assert "has no reserve" in capsys.readouterr().err


def test_that_it_can_not_be_made_is_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", fail)
    assert not reserve.keep(tmp_path, MIB)
    assert not (tmp_path / reserve.NAME).exists()
    assert "No space left on device" in capsys.readouterr().err


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / reserve.NAME).symlink_to(tmp_path / "theirs")
    assert not reserve.keep(tmp_path, MIB)
    assert (tmp_path / "theirs").read_text() == "theirs"


def test_it_goes_once_and_only_where_the_volume_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reserve.keep(tmp_path, MIB)
    free(monkeypatch, 17)
    assert not reserve.give_up(tmp_path)
    assert (tmp_path / reserve.NAME).exists()
    free(monkeypatch, 15)
    assert reserve.give_up(tmp_path)
    assert not (tmp_path / reserve.NAME).exists()
    assert "is full" in capsys.readouterr().err
    assert not reserve.give_up(tmp_path)
