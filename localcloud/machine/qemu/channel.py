"""A socket of QEMU's that carries one JSON object a line, read by a thread of its own."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.errors import Error
from support.waiting import wait_for


class Channel:
    """One connection. `receive` is called, in the reading thread, with every object that comes; `close` at its end."""

    def __init__(
        self, end: socket.socket, receive: Callable[[dict[str, Any]], None], close: Callable[[], None]
    ) -> None:
        self._socket = end
        self._receive = receive
        self._close = close
        self._lock = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def send(self, message: dict[str, Any]) -> None:
        """Send one object. Raises `machine-failed` when nobody is at the other end any more."""
        try:
            with self._lock:
                self._socket.sendall(json.dumps(message).encode() + b"\n")
        except OSError as error:
            raise Error(
                "the machine's QEMU does not listen any more",
                code="machine-failed",
                expected="a running QEMU",
                found=str(error),
            ) from error

    def join(self, seconds: float) -> None:
        """Wait until all that came has been received, where the other end has closed."""
        self._reader.join(seconds)

    def shut(self) -> None:
        """End the connection from this side."""
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the other end was faster

    def _read(self) -> None:
        try:
            with self._socket, self._socket.makefile("rb") as lines:
                for line in lines:
                    # A guest may write what it likes into its port, and half a line before it reboots.
                    try:
                        message = json.loads(line)
                    except ValueError:
                        continue
                    if isinstance(message, dict):
                        self._receive(message)
        except OSError:
            pass  # it was reset
        finally:
            self._close()


def connect(path: Path, alive: Callable[[], bool], seconds: float) -> socket.socket | None:
    """Connect to a socket that QEMU is about to make, for as long as it is `alive`; None when it did not come."""

    def attempt() -> socket.socket | None:
        end = socket.socket(socket.AF_UNIX)
        try:
            end.connect(str(path))
        except OSError:
            end.close()
            return None
        return end

    connected: list[socket.socket] = []

    def look() -> bool:
        if (end := attempt()) is not None:
            connected.append(end)
        return bool(connected) or not alive()

    wait_for(look, seconds)
    return connected[0] if connected else None
