"""An exchange of the live data for what was restored is finished or undone, wherever the power went away."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from zmanim_host.host import HostError
from zmanim_host.storage import swap

OLD = {"postgres": "old", "redis": "old"}
NEW = {"postgres": "new", "redis": "new"}


class PowerCut(BaseException):
    """The power is gone: nothing is done any more, not even tidying up."""


class Power:
    """Power for so many changes of the file system; the next one does not happen."""

    def __init__(self, changes: int) -> None:
        self.left = changes
        self.done = 0

    def over(self, change: Callable[..., object]) -> Callable[..., object]:
        def changed(*words: object, **options: object) -> object:
            if self.done == self.left:
                raise PowerCut
            self.done += 1
            return change(*words, **options)

        return changed


# Every call by which an exchange changes the volume, the journal's own file among them.
CHANGES = ("rename", "replace", "mkdir", "rmdir", "unlink", "open", "fsync")


def volume(path: Path, live: tuple[str, ...] = swap.FOLDERS) -> Path:
    for parent, names, word in ((path, live, "old"), (path / "restore", swap.FOLDERS, "new")):
        for name in names:
            (parent / name).mkdir(parents=True)
            (parent / name / "data").write_text(word)
    return path


def content(data: Path) -> dict[str, str]:
    return {name: (data / name / "data").read_text() for name in swap.FOLDERS if (data / name).exists()}


def exchange(data: Path) -> None:
    begun = swap.begin(data, "20261129T030000Z-abcdef")
    swap.forward(data, begun)
    swap.end(data)


def cut(monkeypatch: pytest.MonkeyPatch, changes: int, act: Callable[[], None]) -> bool:
    """Do something with power for so many changes; return whether that was enough."""
    power = Power(changes)
    with monkeypatch.context() as patched:
        for name in CHANGES:
            patched.setattr(os, name, power.over(getattr(os, name)))
        try:
            act()
        except PowerCut:
            return False
    return True


@pytest.mark.incident("a power cut within --replace started Redis empty, or the new PostgreSQL with the old Redis")
@pytest.mark.parametrize("live", [swap.FOLDERS, ("postgres",), ("redis",), ()])
def test_a_power_cut_before_or_after_any_step_leaves_all_of_the_old_or_all_of_the_new(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, live: tuple[str, ...]
) -> None:
    old = dict.fromkeys(live, "old")
    endings = []
    for changes in range(200):
        data = volume(tmp_path / str(changes), live)
        whole = cut(monkeypatch, changes, partial(exchange, data))
        journal = (data / swap.JOURNAL).exists()
        swap.recover(data)
        assert content(data) in (old, NEW), changes
        assert content(data) == (old if journal else content(data))
        left = {path.name for path in data.iterdir()} - set(swap.FOLDERS)
        assert left <= {"before-20261129T030000Z-abcdef"}, left
        endings.append(content(data))
        if whole:
            break
    assert endings[-1] == NEW
    assert old in endings
    assert len(endings) > 20


def test_a_power_cut_while_it_is_undone_loses_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every other one of the first: the test before this one tries them all.
    for first in range(0, 60, 2):
        for second in range(60):
            data = volume(tmp_path / f"{first}-{second}")
            done = cut(monkeypatch, first, partial(exchange, data))
            again = cut(monkeypatch, second, partial(swap.recover, data))
            swap.recover(data)
            assert content(data) in (OLD, NEW), (first, second)
            if again:
                break
        if done:
            break
    assert done


def test_nothing_is_recovered_where_nothing_was_cut_short(tmp_path: Path) -> None:
    data = volume(tmp_path)
    swap.recover(data)
    assert content(data) == OLD
    assert not (data / "restore").exists(), "what a restore has left takes no room"
    swap.recover(data)


@pytest.mark.parametrize(
    "journal",
    [
        "",
        "{}",
        json.dumps({"format": 2, "run": "r", "had": []}),
        json.dumps({"format": 1, "run": "../../etc", "had": []}),
        json.dumps({"format": 1, "run": "r", "had": ["../etc"]}),
    ],
)
def test_a_journal_that_can_not_be_understood_stops_the_boot_with_nothing_changed(tmp_path: Path, journal: str) -> None:
    data = volume(tmp_path)
    (data / swap.JOURNAL).write_text(journal)
    with pytest.raises(HostError):
        swap.recover(data)
    assert content(data) == OLD
    assert (data / "restore").exists()


def test_no_link_is_followed(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    begun = swap.begin(data, "r")
    (data / "before-r").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="exists"):
        swap.forward(data, begun)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_journal_is_root_s_alone(tmp_path: Path) -> None:
    swap.begin(volume(tmp_path), "r")
    assert stat.S_IMODE((tmp_path / swap.JOURNAL).stat().st_mode) == 0o600
