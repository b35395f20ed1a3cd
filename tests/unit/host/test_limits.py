"""A restore ends when its time or its room is used up, wherever it is then, and that is no failure of the run."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from zmanim_host import limits
from zmanim_host.host import HostError, NotYet, retry


@pytest.mark.incident("a proof's limit of time was lost in a loop that tries again: it had none any longer")
def test_no_loop_that_tries_again_takes_the_end_of_the_time_for_an_error() -> None:
    def attempt() -> None:
        try:
            time.sleep(2)
        except HostError:
            pass
        raise NotYet("not yet")

    began = time.monotonic()
    with pytest.raises(limits.PutOff, match="it is not done after 1 s"), limits.time_limit(1):
        retry(attempt, seconds=20, pause=0.1)
    assert time.monotonic() - began < 2


def test_what_is_done_in_time_is_left_alone() -> None:
    with limits.time_limit(1):
        pass
    time.sleep(1.2)
    with pytest.raises(HostError, match="of its own"), limits.time_limit(5):
        raise HostError("of its own")


def usage(*free: int, total: int = 1 << 30) -> Callable[[Path], limits.Usage]:
    """A volume that has this much free, one answer after the other; the last one stays."""
    left = list(free)
    return lambda _: SimpleNamespace(free=left.pop(0) if len(left) > 1 else left[0], total=total)


@pytest.mark.incident("the drill restored beside live data on the same volume without asking for room")
def test_a_restore_asks_for_room_and_leaves_some_to_the_servers(tmp_path: Path) -> None:
    places: list[Path] = []

    def seen(path: Path) -> limits.Usage:
        places.append(path)
        return SimpleNamespace(free=100 + limits.MARGIN, total=1 << 30)

    limits.check_room(100, tmp_path / "restore", seen)
    assert places == [tmp_path], "the folder itself is made later"
    for wrong in (usage(99 + limits.MARGIN), usage(100 + limits.MARGIN, total=1 << 40)):
        with pytest.raises(limits.PutOff, match=r"MiB may be needed beside what is there, with .* left to the servers"):
            limits.check_room(100, tmp_path / "restore", wrong)


@pytest.mark.incident("a restore whose record said less than it wrote filled the disk of the live servers")
def test_what_takes_the_live_servers_room_is_ended(tmp_path: Path) -> None:
    ended = threading.Event()
    volume = usage(limits.MARGIN, limits.MARGIN - 1)

    def body() -> None:
        assert ended.wait(10)
        raise HostError("loading: exit code 143")

    kept = limits.room_kept(tmp_path, ended.set, volume, pause=0.01)
    with pytest.raises(limits.PutOff, match="less than 96 MiB were left"), kept:
        body()


def test_what_leaves_enough_room_ends_as_it_does(tmp_path: Path) -> None:
    def never() -> None:
        pytest.fail("there is room")

    with limits.room_kept(tmp_path, never, usage(limits.MARGIN), pause=0.01):
        time.sleep(0.1)
    with pytest.raises(HostError, match="a damaged dump"), limits.room_kept(tmp_path, never, usage(limits.MARGIN)):
        raise HostError("a damaged dump")
    with pytest.raises(SystemExit), limits.room_kept(tmp_path, never, usage(limits.MARGIN)):
        raise SystemExit(143)
