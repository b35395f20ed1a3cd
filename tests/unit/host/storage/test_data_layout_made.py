"""A data volume is laid out once, by one rename, and is never touched again where that could hide data."""

from __future__ import annotations

import os
import pwd
import stat
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.support.programs import on_path
from zmanim_host.host import HostError
from zmanim_host.storage import data_layout, reserve


@pytest.fixture
def requested(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The programs that were run; initdb leaves what makes a folder a cluster."""
    programs: list[str] = []
    on_path(tmp_path_factory.mktemp("programs"), monkeypatch, {"postgres": "echo 'postgres (PostgreSQL) 17.12'"})

    def run(command: Sequence[str], **options: Any) -> Any:
        programs.append(command[0])
        if command[0] == "initdb":
            assert options["user"] == "postgres"
            place = Path(next(word for word in command if word.startswith("--pgdata=")).partition("=")[2])
            (place / "PG_VERSION").write_text("17\n")

    me = SimpleNamespace(pw_uid=os.getuid(), pw_gid=os.getgid())
    monkeypatch.setattr(data_layout, "run", run)
    monkeypatch.setattr(pwd, "getpwnam", lambda name: me)
    return programs


def test_a_fresh_volume_gets_everything_and_a_second_boot_changes_nothing(tmp_path: Path, requested: list[str]) -> None:
    data_layout.lay_out(tmp_path)
    names = {"postgres", "redis", "backup", data_layout.MARKER, reserve.NAME}
    assert {path.name for path in tmp_path.iterdir()} == names
    for folder in ("postgres", "redis", "backup"):
        assert stat.S_IMODE((tmp_path / folder).stat().st_mode) == 0o700
    assert data_layout.is_marked(tmp_path)
    (tmp_path / "postgres/data").write_text("kept")
    requested.clear()
    data_layout.lay_out(tmp_path)
    assert requested == []
    assert (tmp_path / "postgres/data").read_text() == "kept"


def test_what_a_power_cut_left_of_initdb_is_made_anew(tmp_path: Path, requested: list[str]) -> None:
    (tmp_path / ".postgres.unfinished").mkdir()
    (tmp_path / ".postgres.unfinished/half").write_text("")
    data_layout.lay_out(tmp_path)
    assert [path.name for path in (tmp_path / "postgres").iterdir()] == ["PG_VERSION"]


def test_a_cluster_from_before_the_marker_is_marked_and_not_remade(tmp_path: Path, requested: list[str]) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "postgres/PG_VERSION").write_text("17\n")
    data_layout.lay_out(tmp_path)
    assert "initdb" not in requested
    assert data_layout.is_marked(tmp_path)


@pytest.mark.incident("root read a version through a link that PostgreSQL's user had made")
def test_a_version_that_is_a_link_is_refused_and_nothing_is_made(tmp_path: Path, requested: list[str]) -> None:
    (tmp_path / "postgres").mkdir()
    (tmp_path / "secret").write_text("hunter2\n")
    (tmp_path / "postgres/PG_VERSION").symlink_to("../secret")
    with pytest.raises(HostError, match="without links on the way") as refused:
        data_layout.lay_out(tmp_path)
    assert "hunter2" not in str(refused.value)
    assert requested == []


def test_a_volume_that_lost_its_cluster_gets_no_new_one(tmp_path: Path, requested: list[str]) -> None:
    (tmp_path / data_layout.MARKER).write_text('{"format": 1, "cluster": true}')
    with pytest.raises(HostError, match="restore it from a backup"):
        data_layout.lay_out(tmp_path)
    assert "initdb" not in requested
    assert [path.name for path in tmp_path.iterdir()] == [data_layout.MARKER]


@pytest.mark.incident("the database was written to the root disk, and went with the instance")
def test_nothing_is_written_where_no_volume_is_mounted(tmp_path: Path, requested: list[str]) -> None:
    with pytest.raises(HostError, match="nothing is written to the root disk"):
        data_layout.prepare(tmp_path)
    assert (requested, list(tmp_path.iterdir())) == ([], [])


def test_a_mounted_volume_is_grown_before_it_is_laid_out(tmp_path: Path, requested: list[str]) -> None:
    data_layout.prepare(tmp_path, lambda path: path == tmp_path)
    assert requested == ["xfs_growfs", "initdb"]


def test_a_server_whose_version_is_not_understood_stops_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_path(tmp_path / "programs", monkeypatch, {"postgres": "echo 'postgres: what?'"})
    (tmp_path / "data").mkdir()
    with pytest.raises(HostError, match="postgres --version says 'postgres: what"):
        data_layout.lay_out(tmp_path / "data")
    assert list((tmp_path / "data").iterdir()) == []
