"""A cluster is made only where there was none, and never where it would hide one."""

from __future__ import annotations

from pathlib import Path

import pytest

from zmanim_host.host import HostError
from zmanim_host.storage.data_layout import MARKER, Decision, decide, is_marked


def test_a_fresh_volume_gets_a_cluster() -> None:
    assert decide(version=None, entries=0, marked=False, server_major=17) is Decision.MAKE


@pytest.mark.parametrize("marked", [True, False])
def test_a_cluster_of_this_major_version_is_kept(marked: bool) -> None:
    assert decide(version="17\n", entries=25, marked=marked, server_major=17) is Decision.KEEP


@pytest.mark.parametrize("version", ["16\n", "18\n", ""])
def test_a_cluster_of_another_major_version_is_refused_with_what_to_do(version: str) -> None:
    with pytest.raises(HostError, match="nothing was changed"):
        decide(version=version, entries=25, marked=True, server_major=17)


def test_files_that_are_no_cluster_are_left_alone() -> None:
    with pytest.raises(HostError, match="3 files but no PG_VERSION"):
        decide(version=None, entries=3, marked=False, server_major=17)


def test_a_cluster_that_disappeared_is_not_replaced_by_an_empty_one() -> None:
    with pytest.raises(HostError, match="restore it from a backup"):
        decide(version=None, entries=0, marked=True, server_major=17)


def test_the_marker_is_read_back(tmp_path: Path) -> None:
    assert not is_marked(tmp_path)
    (tmp_path / MARKER).write_text('{"format": 1, "cluster": true}')
    assert is_marked(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 2, "cluster": true}'])
def test_a_marker_that_is_not_understood_stops_everything(tmp_path: Path, text: str) -> None:
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(HostError):
        is_marked(tmp_path)
