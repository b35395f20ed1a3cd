"""A machine's end is told and waited for once, whatever taking it away raises: a forced stop once hung for ever."""

from __future__ import annotations

import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import pytest

from localcloud.machine.lifetime import Lifetime


@dataclass
class Turns:
    """A machine whose processes end as `reboots` says, each once it may; what is `broken` raises."""

    reboots: list[bool] = field(default_factory=lambda: [False])
    broken: set[str] = field(default_factory=set)
    done: list[str] = field(default_factory=list)
    may_end: threading.Event = field(default_factory=threading.Event)

    def spawn(self, root: Path) -> subprocess.Popen[bytes]:
        self._do("spawn")
        return cast("subprocess.Popen[bytes]", root)

    def wait(self, process: subprocess.Popen[bytes]) -> bool:
        assert self.may_end.wait(10)
        return self.reboots.pop(0)

    def clean_up(self) -> None:
        self._do("clean up")

    def kill_processes(self) -> None:
        self._do("kill")

    def _do(self, what: str) -> None:
        self.done.append(what)
        if what in self.broken:
            raise FileNotFoundError(2, "a control group was removed meanwhile")


@pytest.mark.parametrize("reboots", [False, True], ids=["it ends", "it does not come back from a reboot"])
def test_an_end_is_told_though_something_of_the_machine_stays(tmp_path: Path, reboots: bool) -> None:
    turns, told = Turns([reboots]), threading.Event()
    life = Lifetime("i-1", turns)
    life.start(tmp_path, told.set)
    assert life.running
    turns.broken = {"spawn", "clean up"}
    turns.may_end.set()
    assert told.wait(5)
    assert not life.running


def test_a_reboot_is_another_process_and_no_end(tmp_path: Path) -> None:
    turns, told = Turns([True, True, False]), threading.Event()
    Lifetime("i-1", turns).start(tmp_path, told.set)
    turns.may_end.set()
    assert told.wait(5)
    assert turns.done == ["spawn", "clean up", "spawn", "clean up", "spawn", "clean up"]


def test_a_start_that_fails_leaves_a_machine_that_does_not_run(tmp_path: Path) -> None:
    life = Lifetime("i-1", Turns(broken={"spawn", "clean up"}))
    with pytest.raises(FileNotFoundError):
        life.start(tmp_path, lambda: None)
    assert not life.running


def test_an_end_that_was_asked_for_is_told_to_nobody_and_is_no_reboot(tmp_path: Path) -> None:
    turns, told = Turns([True]), threading.Event()
    life = Lifetime("i-1", turns)
    life.start(tmp_path, told.set)
    life.stop(turns.may_end.set, 10, 0.01)
    assert not life.running
    assert not told.is_set()
    assert turns.done == ["spawn", "clean up"]


def test_a_machine_that_hears_nothing_is_asked_again_and_then_cut_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    turns, asked = Turns(), []
    life = Lifetime("i-1", turns)
    life.start(tmp_path, lambda: None)
    turns.kill_processes = turns.may_end.set  # type: ignore[method-assign]
    life.stop(lambda: asked.append(1), 0.1, 0.01)
    assert not life.running
    assert len(asked) > 1
    assert "i-1 did not shut down within 0 s: it is cut off" in caplog.text


def test_a_machine_that_is_cut_off_while_it_reboots_is_cut_off_again(tmp_path: Path) -> None:
    turns = Turns()
    life = Lifetime("i-1", turns)
    life.start(tmp_path, lambda: None)

    def kill() -> None:
        turns.done.append("kill")
        if turns.done.count("kill") == 2:
            turns.may_end.set()

    turns.kill_processes = kill  # type: ignore[method-assign]
    life.kill()
    assert (turns.done.count("kill"), life.running) == (2, False)
