"""The life of a machine as a process of the host's: from its start through its reboots to its end.

Both kinds of machine have this in common. A reboot ends a process and the next one takes its place; how one is started,
asked to end and cleaned up after is each kind's own (Turns).
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from support.waiting import wait_for

log = logging.getLogger(__name__)
# For how long what is killed is waited for.
_KILL_SECONDS = 15.0


class Turns(Protocol):
    """What a kind of machine does at each of its processes, from a boot to the next reboot or the end."""

    def spawn(self, root: Path) -> subprocess.Popen[bytes]:
        """Start the process and return once the machine boots. Raises `machine-failed`."""

    def wait(self, process: subprocess.Popen[bytes]) -> bool:
        """Wait for its end; say whether the machine is to be started again."""

    def clean_up(self) -> None:
        """Take away what the host's side of an ended machine leaves."""

    def kill_processes(self) -> None:
        """Kill every process of the machine that there is now."""


class Lifetime:
    """The life of the machine `name`, which `turns` starts and cleans up after."""

    def __init__(self, name: str, turns: Turns) -> None:
        self._name = name
        self._turns = turns
        self._expected_to_end = False
        self._ended = threading.Event()
        self._ended.set()

    @property
    def running(self) -> bool:
        """Whether the machine runs, or will again: a reboot is no end."""
        return not self._ended.is_set()

    def start(self, root: Path, on_exit: Callable[[], None]) -> None:
        """Start the machine; `on_exit` is called, in another thread, when it ends by itself.

        Raises what `Turns.spawn` raises; then it does not run.
        """
        self._expected_to_end = False
        self._ended.clear()
        try:
            process = self._turns.spawn(root)
        except BaseException:
            try:
                self._turns.clean_up()
            finally:
                self._ended.set()
            raise
        threading.Thread(target=self._watch, args=(process, root, on_exit), daemon=True).start()

    def expect_end(self) -> None:
        """Take the end that comes for one that was asked for, and let no reboot come between."""
        self._expected_to_end = True

    def stop(self, ask: Callable[[], None], seconds: float, pause: float) -> None:
        """Ask the machine to shut down, every `pause` seconds; cut it off when it has not within `seconds`.

        Again, because an init that has only just been started does not hear it yet.
        """
        self.expect_end()

        def ended() -> bool:
            ask()
            return self._ended.wait(pause)

        if not wait_for(ended, seconds):
            log.warning("%s did not shut down within %.0f s: it is cut off", self._name, seconds)
            self.kill()

    def kill(self) -> None:
        """Kill what runs of the machine, and wait for its end."""
        self.expect_end()

        def ended() -> bool:
            # Again each second: a machine that is just rebooting has no process.
            self._turns.kill_processes()
            return self._ended.wait(1)

        wait_for(ended, _KILL_SECONDS)

    def _watch(self, process: subprocess.Popen[bytes], root: Path, on_exit: Callable[[], None]) -> None:
        """See the machine through its reboots to its end."""
        try:
            while self._turns.wait(process) and not self._expected_to_end:
                self._turns.clean_up()
                process = self._turns.spawn(root)
        except Exception:
            log.exception("%s does not come back from its reboot", self._name)
        try:
            self._turns.clean_up()
        except Exception:
            # Who waits for its end must not wait for ever, and an end that nobody asked for has to be told.
            log.exception("something of %s stays", self._name)
        self._ended.set()
        if not self._expected_to_end:
            on_exit()
