"""QEMU's monitor protocol, QMP: commands with their answers, and the events that a machine's life is known by.

Of the specification (docs/interop/qmp-spec in QEMU's sources): a greeting, then `qmp_capabilities`, then commands.
"""

from __future__ import annotations

import itertools
import socket
import threading
from typing import Any

from localcloud.machine.qemu.channel import Channel
from support.errors import Error

_ANSWER_SECONDS = 20.0
# Why QEMU ends when its guest, or `system_reset`, asks for a reboot (ShutdownCause in its schema).
_RESETS = {"guest-reset", "host-qmp-system-reset"}


class Monitor:
    """The monitor of one running QEMU."""

    def __init__(self, end: socket.socket) -> None:
        self._numbers = itertools.count()
        self._answers: dict[int, dict[str, Any]] = {}
        self._events: list[dict[str, Any]] = []
        self._ended = False
        self._changed = threading.Condition()
        self._channel = Channel(end, self._receive, self._close)
        self.execute("qmp_capabilities")

    def execute(self, command: str, arguments: dict[str, Any] | None = None) -> Any:
        """Run a command and return what it returns. Raises `machine-failed` with QEMU's words."""
        number = next(self._numbers)
        self._channel.send({"execute": command, "arguments": arguments or {}, "id": number})
        with self._changed:
            self._changed.wait_for(lambda: number in self._answers or self._ended, _ANSWER_SECONDS)
            answer = self._answers.pop(number, {})
        if "return" in answer:
            return answer["return"]
        raise Error(
            f"QEMU did not do {command}",
            code="machine-failed",
            expected=f"it done within {_ANSWER_SECONDS:.0f} s",
            found=str(answer.get("error", {}).get("desc") or ("it has ended" if self._ended else "no answer")),
        )

    def wait_for_deletion(self, device: str, seconds: float) -> bool:
        """Wait until the guest has let go of a device; say whether it did."""

        def deleted() -> bool:
            named = (each for each in self._events if each["event"] == "DEVICE_DELETED")
            return any(each["data"].get("device") == device for each in named)

        with self._changed:
            return self._changed.wait_for(lambda: deleted() or self._ended, seconds) and deleted()

    def forget_deletion(self, device: str) -> None:
        """Forget that a device of this name has gone: it may come again."""
        with self._changed:
            self._events = [each for each in self._events if each.get("data", {}).get("device") != device]

    def rebooted(self, seconds: float = 5.0) -> bool:
        """Say, of a QEMU that has ended, whether its machine asked to be started again."""
        self._channel.join(seconds)
        with self._changed:
            ends = [each for each in self._events if each["event"] == "SHUTDOWN"]
        return any(each["data"].get("reason") in _RESETS for each in ends)

    def close(self) -> None:
        """End the connection."""
        self._channel.shut()

    def _receive(self, message: dict[str, Any]) -> None:
        with self._changed:
            if "event" in message:
                self._events.append(message)
            elif "id" in message:
                self._answers[message["id"]] = message
            self._changed.notify_all()

    def _close(self) -> None:
        with self._changed:
            self._ended = True
            self._changed.notify_all()
