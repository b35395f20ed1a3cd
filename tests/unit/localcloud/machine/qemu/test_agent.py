"""The agent: both ends of it, over a socket in place of the virtio port."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from localcloud.machine.interface import Ran
from localcloud.machine.qemu import base_disk
from localcloud.machine.qemu.agent import Agent
from localcloud.machine.qemu.guest import agent as guest
from support.waiting import wait_for
from tests.support.errors import raises

GUEST = Path(guest.__file__).parent


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    host, machine = socket.socketpair()
    with host, machine:
        yield host, machine


@pytest.fixture
def agent(ends: tuple[socket.socket, socket.socket]) -> Iterator[Agent]:
    """An agent whose machine runs in this process."""
    host, machine = ends
    port = machine.makefile("rwb", buffering=0)
    threading.Thread(target=guest.serve, args=(port, "a-boot-id"), daemon=True).start()
    made = Agent(host)
    assert made.ready.wait(5)
    yield made
    made.close()


def test_a_command_has_its_input_and_gives_back_its_code_and_both_outputs(agent: Agent) -> None:
    ran = agent.run(["/bin/sh", "-c", "cat; echo err >&2; exit 3"], input="line\nüber\n")
    assert (ran.returncode, ran.stdout, ran.stderr, ran.timed_out) == (3, "line\nüber\n", "err\n", False)


def test_a_command_that_takes_too_long_is_ended_with_all_that_it_has_started(agent: Agent) -> None:
    begun = time.monotonic()
    ran = agent.run(["/bin/sh", "-c", "echo begun; sleep 60 & sleep 60"], timeout=0.3)
    assert (ran.stdout, ran.timed_out) == ("begun\n", True)
    assert time.monotonic() - begun < 10


def test_a_program_that_is_not_there_is_a_command_that_failed(agent: Agent) -> None:
    ran = agent.run(["/no/such/program"])
    assert ran.returncode == 127
    assert "No such file" in ran.stderr


def test_a_long_command_does_not_hold_up_another(agent: Agent) -> None:
    slow: list[Ran] = []
    waiting = threading.Thread(target=lambda: slow.append(agent.run(["sleep", "60"], timeout=1)), daemon=True)
    waiting.start()
    assert agent.run(["echo", "quick"], timeout=5).stdout == "quick\n"
    assert slow == []
    waiting.join(10)
    assert slow[0].timed_out


def test_output_that_is_longer_than_any_buffer_comes_whole(agent: Agent) -> None:
    assert len(agent.run(["head", "-c", "3000000", "/dev/zero"]).stdout) == 3_000_000


def test_a_machine_that_has_not_said_hello_runs_nothing(ends: tuple[socket.socket, socket.socket]) -> None:
    """What is sent into a port before anybody reads it would run later, when nobody expects it."""
    agent = Agent(ends[0])
    with raises("machine-failed", match="not said hello"):
        agent.run(["true"], timeout=0.1)
    ends[1].setblocking(False)
    with pytest.raises(BlockingIOError):
        ends[1].recv(1)
    agent.close()


def test_who_waits_for_a_command_hears_of_the_machine_s_end(ends: tuple[socket.socket, socket.socket]) -> None:
    agent = Agent(ends[0])
    ends[1].sendall(b'{"hello": "a-boot-id"}\n')
    assert agent.ready.wait(5)
    threading.Timer(0.2, ends[1].shutdown, [socket.SHUT_RDWR]).start()
    with raises("machine-failed", match="ended while the command ran"):
        agent.run(["true"])
    with raises("machine-failed", match="the machine ended"):
        agent.run(["true"])


def test_what_a_machine_makes_up_is_no_answer(ends: tuple[socket.socket, socket.socket]) -> None:
    """Its root may write anything into the port: that ends no thread here and is nobody's answer."""
    agent = Agent(ends[0])
    for line in (b"\xff\xfe\n", b"[1]\n", b"null\n", b'{"id": "1"}\n', b'{"id": 99, "stdout": 7}\n', b'{"hello": 1}\n'):
        ends[1].sendall(line)
    assert agent.ready.wait(5)

    def answer() -> None:
        request = json.loads(ends[1].recv(65536))
        ends[1].sendall(json.dumps({"id": request["id"], "returncode": "none", "stdout": 1}).encode() + b"\n")

    threading.Thread(target=answer, daemon=True).start()
    ran = agent.run(["true"], timeout=5)
    assert (ran.returncode, ran.stdout) == (255, "1")
    agent.close()


def test_a_line_that_is_no_request_is_left_out(ends: tuple[socket.socket, socket.socket]) -> None:
    port = ends[1].makefile("rwb", buffering=0)
    threading.Thread(target=guest.serve, args=(port, "a-boot-id"), daemon=True).start()
    ends[0].sendall(b'nonsense\n[]\n{"id": 1}\n{"id": 2, "command": ["true"]}\n')
    lines = ends[0].makefile("rb")
    assert json.loads(lines.readline()) == {"hello": "a-boot-id"}
    assert json.loads(lines.readline())["id"] == 2


def test_the_port_is_found_by_its_name(tmp_path: Path) -> None:
    assert guest.find_port(tmp_path) is None
    for number, name in enumerate(("com.example.other", guest.PORT)):
        (tmp_path / f"vport1p{number}").mkdir()
        (tmp_path / f"vport1p{number}" / "name").write_text(f"{name}\n")
    assert guest.find_port(tmp_path) == Path("/dev/vport1p1")


def test_unit_and_rule_name_the_programs_where_the_disk_has_them() -> None:
    places = {f"/{place}" for place in base_disk.PLACES.values()}
    named = re.findall(
        r"/usr/lib/localcloud/[\w.-]+",
        "".join((GUEST / name).read_text() for name in ("localcloud-agent.service", "70-localcloud-ebs.rules")),
    )
    assert len(named) == 2
    assert set(named) <= places
    assert all((GUEST / name).is_file() for name in base_disk.PLACES)


def test_an_agent_that_ends_is_not_waited_for(ends: tuple[socket.socket, socket.socket]) -> None:
    agent = Agent(ends[0])
    agent.close()
    assert wait_for(lambda: agent.ended, 5)
