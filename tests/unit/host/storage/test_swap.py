"""An exchange of the live data for what was restored is finished or undone, wherever the power went away."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from zmanim_host.host import HostError
from zmanim_host.storage import swap

RUN = "20261129T030000Z-abcdef"
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
            (parent / name).mkdir(parents=True, exist_ok=True)
            (parent / name / "data").write_text(word)
    return path


def content(data: Path) -> dict[str, str]:
    return {name: (data / name / "data").read_text() for name in swap.FOLDERS if (data / name).exists()}


def exchange(data: Path) -> None:
    begun = swap.begin(data, RUN)
    swap.forward(data, begun)
    swap.decide(data, begun)
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
        journal = swap.unfinished(data)
        swap.recover(data)
        assert content(data) in (old, NEW), changes
        assert content(data) == (content(data) if not journal else NEW if journal.decided else old)
        left = {path.name for path in data.iterdir()} - set(swap.FOLDERS)
        assert left <= {f"before-{RUN}", f"undone-{RUN}"}, left
        endings.append(content(data))
        if whole:
            break
    assert endings[-1] == NEW
    assert old in endings
    assert len(endings) > 20


def test_a_power_cut_while_it_is_undone_loses_nothing_either(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Every third of the first: the test before this one tries them all.
    for first in range(0, 80, 3):
        for second in range(80):
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


def test_a_power_cut_while_a_decision_is_undone_leaves_no_half_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def undo(data: Path, begun: swap.Swap) -> None:
        swap.back(data, begun)
        swap.end(data)

    endings = []
    for changes in range(100):
        data = volume(tmp_path / str(changes))
        begun = swap.begin(data, RUN)
        swap.forward(data, begun)
        swap.decide(data, begun)
        whole = cut(monkeypatch, changes, partial(undo, data, begun))
        swap.recover(data)
        endings.append(content(data))
        if whole:
            break
    assert all(each in (OLD, NEW) for each in endings), endings
    assert endings[-1] == OLD


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
        json.dumps({"format": 3, "run": "r", "had": [], "decided": True}),
        json.dumps({"format": 2, "run": "r", "had": [], "decided": "yes"}),
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


@pytest.mark.incident("a restore whose end was killed lost weeks of customers' writes at the next boot")
@pytest.mark.parametrize("restore_is_there", [True, False])
@pytest.mark.parametrize("live", [swap.FOLDERS, ("postgres",), ()])
def test_what_was_in_use_is_never_removed(tmp_path: Path, live: tuple[str, ...], *, restore_is_there: bool) -> None:
    data = volume(tmp_path, live)
    swap.forward(data, swap.begin(data, RUN))
    # The servers have started, somebody has written, and a drill may have removed what it takes for its own.
    for name in swap.FOLDERS:
        (data / name / "data").write_text("new, and written to")
    if not restore_is_there:
        shutil.rmtree(data / "restore")
    swap.recover(data)
    assert content(data) == dict.fromkeys(live, "old")
    assert content(data / f"undone-{RUN}") == dict.fromkeys(swap.FOLDERS, "new, and written to")
    assert not (data / swap.JOURNAL).exists()


def test_what_is_kept_of_one_undoing_is_not_mixed_with_another_s(tmp_path: Path) -> None:
    for word in ("new", "new again"):
        data = volume(tmp_path)
        for name in swap.FOLDERS:
            (data / "restore" / name / "data").write_text(word)
        swap.forward(data, swap.begin(data, RUN))
        swap.recover(data)
    assert content(data / f"undone-{RUN}") == NEW
    assert content(data / f"undone-{RUN}-2") == {"postgres": "new again", "redis": "new again"}


@pytest.mark.incident("a restore whose end was killed lost weeks of customers' writes at the next boot")
def test_an_exchange_that_is_decided_is_finished_whatever_has_become_of_its_leftovers(tmp_path: Path) -> None:
    for left in ("all", "no restore", "no before"):
        data = volume(tmp_path / left)
        begun = swap.begin(data, RUN)
        swap.forward(data, begun)
        swap.decide(data, begun)
        (data / "postgres/data").write_text("written to")
        if left != "all":
            shutil.rmtree(data / {"no restore": "restore", "no before": f"before-{RUN}"}[left])
        swap.recover(data)
        assert content(data) == {"postgres": "written to", "redis": "new"}
        assert not (data / swap.JOURNAL).exists()


def test_what_is_missing_is_said_with_what_to_do_and_nothing_is_removed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = volume(tmp_path)
    begun = swap.begin(data, RUN)
    (data / f"before-{RUN}").mkdir()
    shutil.rmtree(data / "redis")
    swap.recover(data)
    said = capsys.readouterr().err
    assert f"{data}/redis is not there, and not in {data}/before-{RUN} either" in said
    assert f"remove {data}/.zmanim-swap.json" in said
    assert (data / "restore/redis/data").read_text() == "new"
    # So that the API does not start on it, which looks at the journal.
    assert swap.unfinished(data) == begun
    swap.recover(data)
    assert (data / "restore/redis/data").read_text() == "new"


def test_nothing_else_is_restored_while_there_is_a_journal(tmp_path: Path) -> None:
    data = volume(tmp_path)
    swap.check_none(data)
    begun = swap.begin(data, RUN)
    with pytest.raises(HostError, match=f"the exchange .* for run {RUN} was cut short: .*Restart this machine"):
        swap.check_none(data)
    swap.forward(data, begun)
    swap.decide(data, begun)
    with pytest.raises(HostError, match="Restart this machine: what was restored stays in use"):
        swap.check_none(data)
    (data / swap.JOURNAL).write_text("")
    with pytest.raises(HostError, match="can't be understood"):
        swap.check_none(data)


def test_the_journal_of_an_older_image_is_one_of_an_exchange_that_is_not_decided(tmp_path: Path) -> None:
    (tmp_path / swap.JOURNAL).write_text(json.dumps({"format": 1, "run": "r", "had": ["redis"]}))
    assert swap.unfinished(tmp_path) == swap.Swap("r", ("redis",))


def test_no_link_is_followed(tmp_path: Path) -> None:
    data = volume(tmp_path / "data")
    (tmp_path / "elsewhere").mkdir()
    begun = swap.begin(data, "r")
    (data / "before-r").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="exists"):
        swap.forward(data, begun)
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_the_journal_is_root_s_to_write_and_the_backup_s_to_read(tmp_path: Path) -> None:
    swap.begin(volume(tmp_path), "r")
    assert stat.S_IMODE((tmp_path / swap.JOURNAL).stat().st_mode) == 0o644
