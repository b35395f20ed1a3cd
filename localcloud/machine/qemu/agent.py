"""The host's end of the agent (guest/agent.py): commands that run in a machine with a kernel of its own."""

from __future__ import annotations

import itertools
import socket
import threading
from collections.abc import Sequence
from typing import Any

from localcloud.machine.interface import Ran
from localcloud.machine.qemu.channel import Channel
from support.errors import Error

# Beyond a command's own time limit, for the way there and back: an emulated machine is slow.
_GRACE_SECONDS = 15.0


class Agent:
    """The agent in one booted machine. It is ready once it has said hello; a reboot has an Agent of its own."""

    def __init__(self, end: socket.socket) -> None:
        self.ready = threading.Event()
        self._numbers = itertools.count(1)
        self._answers: dict[int, dict[str, Any]] = {}
        self._ended = False
        self._changed = threading.Condition()
        self._channel = Channel(end, self._receive, self._close)

    def run(self, command: Sequence[str], *, input: str = "", timeout: float | None = None) -> Ran:
        """Run a command as root and return how it ended. Raises `machine-failed` when the machine ends meanwhile."""
        if not self.ready.is_set() or self._ended:
            raise _silent("it has not said hello" if not self._ended else "the machine ended")
        number = next(self._numbers)
        self._channel.send({"id": number, "command": list(command), "input": input, "timeout": timeout})
        with self._changed:
            patience = None if timeout is None else timeout + _GRACE_SECONDS
            answered = self._changed.wait_for(lambda: number in self._answers or self._ended, patience)
            answer = self._answers.pop(number, None)
        if answer is not None:
            return _ran(answer)
        if not answered:
            return Ran(-9, "", "", timed_out=True)
        raise _silent("the machine ended while the command ran")

    @property
    def ended(self) -> bool:
        """Whether the machine is gone, or its QEMU."""
        return self._ended

    def close(self) -> None:
        """End the connection; who waits for an answer hears so."""
        self._channel.shut()

    def _receive(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "hello" in message:
                self.ready.set()
            elif isinstance(message.get("id"), int):
                self._answers[message["id"]] = message
            self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()


def _ran(answer: dict[str, Any]) -> Ran:
    # What comes from a guest is the guest's word: nothing but what a Ran holds is made of it.
    code = answer.get("returncode")
    return Ran(
        code if isinstance(code, int) else 255,
        str(answer.get("stdout", "")),
        str(answer.get("stderr", "")),
        answer.get("timed_out") is True,
    )


def _silent(found: str) -> Error:
    return Error(
        "the local cloud's agent in the machine does not answer",
        code="machine-failed",
        expected="localcloud-agent.service running there",
        found=found,
    )
