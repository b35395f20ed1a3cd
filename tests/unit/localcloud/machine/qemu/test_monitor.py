"""QEMU's monitor: answers find who asked, and a reboot is told from an end by the event that names it."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from localcloud.machine.qemu.monitor import Monitor
from tests.support.errors import raises


class Qemu:
    """QEMU's end of its monitor: answers each command, and says what it is told to."""

    def __init__(self, end: socket.socket) -> None:
        self.end = end
        self.commands: list[dict[str, Any]] = []
        self.send({"QMP": {"version": {}, "capabilities": []}})
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, message: dict[str, Any]) -> None:
        self.end.sendall(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: Any) -> None:
        self.send({"event": name, "data": data})

    def _serve(self) -> None:
        for line in self.end.makefile("rb"):
            command = json.loads(line)
            self.commands.append(command)
            if command["execute"] == "device_add":
                self.send({"error": {"class": "GenericError", "desc": "Bus 'x' not found"}, "id": command["id"]})
            else:
                self.event("SOMETHING")
                self.send({"return": {"asked": command["execute"]}, "id": command["id"]})


@pytest.fixture
def qemu() -> Iterator[tuple[Qemu, Monitor]]:
    ours, theirs = socket.socketpair()
    with theirs:
        made = Qemu(theirs)
        monitor = Monitor(ours)
        yield made, monitor
        monitor.close()


def test_capabilities_are_negotiated_first(qemu: tuple[Qemu, Monitor]) -> None:
    assert [command["execute"] for command in qemu[0].commands] == ["qmp_capabilities"]


def test_an_answer_is_found_among_events(qemu: tuple[Qemu, Monitor]) -> None:
    assert qemu[1].execute("query-status") == {"asked": "query-status"}


def test_qemu_s_own_words_are_told_when_it_refuses(qemu: tuple[Qemu, Monitor]) -> None:
    with raises("machine-failed", match="Bus 'x' not found"):
        qemu[1].execute("device_add", {"driver": "nvme"})


def test_a_device_has_gone_when_the_guest_has_let_go_of_it(qemu: tuple[Qemu, Monitor]) -> None:
    own, monitor = qemu
    own.event("DEVICE_DELETED", path="/machine/peripheral/vol1/part")
    own.event("DEVICE_DELETED", device="vol2", path="/machine/peripheral/vol2")
    assert not monitor.wait_for_deletion("vol1", 0.2)
    threading.Timer(0.1, lambda: own.event("DEVICE_DELETED", device="vol1")).start()
    assert monitor.wait_for_deletion("vol1", 5)


def test_a_device_that_came_again_has_not_gone(qemu: tuple[Qemu, Monitor]) -> None:
    own, monitor = qemu
    own.event("DEVICE_DELETED", device="vol1")
    assert monitor.wait_for_deletion("vol1", 5)
    monitor.forget_deletion("vol1")
    assert not monitor.wait_for_deletion("vol1", 0.1)


@pytest.mark.parametrize(
    ("reason", "again"),
    [
        ("guest-reset", True),
        ("host-qmp-system-reset", True),
        ("guest-shutdown", False),
        ("host-signal", False),
        ("guest-panic", False),
    ],
)
def test_only_a_reset_starts_the_machine_again(qemu: tuple[Qemu, Monitor], reason: str, again: bool) -> None:
    own, monitor = qemu
    own.event("SHUTDOWN", guest=True, reason=reason)
    own.end.shutdown(socket.SHUT_RDWR)
    assert monitor.rebooted() is again


def test_a_qemu_that_was_killed_did_not_reboot_and_answers_nobody(qemu: tuple[Qemu, Monitor]) -> None:
    own, monitor = qemu
    own.end.shutdown(socket.SHUT_RDWR)
    assert not monitor.rebooted()
    with raises("machine-failed"):
        monitor.execute("query-status")
