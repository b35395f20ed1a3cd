"""When an API counts as hung, as failed on probation, and as proven; and when it is not to blame."""

from __future__ import annotations

import socket
import subprocess
import threading
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support import ROOT
from tests.support.release_files import NOW, Site, files, packed, site
from zmanim_host import notices
from zmanim_host.host import HostError
from zmanim_host.release.adopt import Channel, Machine, adopt
from zmanim_host.release.health import Api, Limits, Notes, after_answer, after_failure, get_health, look, read_notes

LIMITS = Limits(failures=3, probation_seconds=60)


@dataclass
class Lab:
    """A machine whose API answers what the test says, with a clock that goes 5 s from one look to the next."""

    machine: Site
    wrong: str = ""
    api: Api = field(default_factory=lambda: Api("run-1", 100.0))
    database: bool = True
    notes: Notes = field(default_factory=Notes)
    now: float = 0.0
    restarts: list[str] = field(default_factory=list)

    def ask(self) -> None:
        if self.wrong:
            raise HostError(self.wrong)

    def looks(self, number: int) -> None:
        for _ in range(number):
            self.now += 5
            self.notes = look(
                self.machine.store,
                LIMITS,
                self.notes,
                ask=self.ask,
                api=lambda: self.api,
                database_answers=lambda: self.database,
                restart=lambda: self.restarts.append(self.machine.running),
                clock=lambda: self.now,
            )


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    machine = site(tmp_path)
    machine.channel(packed(files()))
    adopt(machine.store, Channel("prod", machine.fetched, machine.keys), Machine(lambda: 0, lambda: True, lambda: NOW))
    assert machine.running == "v1.2.3"
    return Lab(machine)


def test_a_release_that_stays_well_is_the_last_good_one(lab: Lab) -> None:
    lab.looks(12)
    assert lab.machine.store.load().probation is not None
    lab.looks(1)
    assert lab.machine.store.load().probation is None
    assert (lab.machine.store.releases / "last-good").resolve().name == "v1.2.3"
    status = lab.machine.store.read_status()
    assert status is not None
    assert not status.on_probation
    assert lab.restarts == []


def test_a_release_on_probation_that_fails_its_health_check_is_rolled_back(lab: Lab) -> None:
    lab.wrong = "/health answers 503"
    lab.looks(2)
    assert (lab.machine.running, lab.restarts) == ("v1.2.3", [])
    lab.looks(1)
    # Taken back first: the restart must not start it once more.
    assert (lab.machine.running, lab.restarts) == ("v1.0.0", ["v1.0.0"])
    assert len(lab.machine.store.load().denied) == 1
    (waiting,) = notices.pending(lab.machine.store.notices)
    assert '"why": "/health answers 503"' in waiting.read_text()


def test_a_proven_release_that_hangs_is_restarted_and_stays(lab: Lab) -> None:
    lab.looks(13)
    lab.wrong = "/health does not answer"
    lab.looks(3)
    assert (lab.machine.running, lab.restarts) == ("v1.2.3", ["v1.2.3"])
    assert lab.machine.store.load().denied == ()


def test_one_good_answer_ends_a_row_of_failures(lab: Lab) -> None:
    for _ in range(5):
        lab.wrong = "/health answers 500"
        lab.looks(2)
        lab.wrong = ""
        lab.looks(1)
    assert (lab.machine.running, lab.restarts) == ("v1.2.3", [])


def test_a_failure_in_between_makes_the_probation_begin_anew(lab: Lab) -> None:
    lab.looks(12)
    lab.wrong = "/health answers 500"
    lab.looks(1)
    lab.wrong = ""
    lab.looks(12)
    assert lab.machine.store.load().probation is not None
    lab.looks(1)
    assert lab.machine.store.load().probation is None


def test_a_restart_in_between_makes_the_probation_begin_anew(lab: Lab) -> None:
    lab.looks(12)
    lab.api = Api("run-2", 100.0)
    lab.looks(12)
    assert lab.machine.store.load().probation is not None


@pytest.mark.parametrize(
    "why", [{"database": False}, {"api": Api("run-1", 0.0)}, {"api": Api("run-1", 9.0)}], ids=["db", "down", "begun"]
)
def test_what_is_not_the_release_s_doing_is_not_held_against_it(lab: Lab, why: dict[str, object]) -> None:
    lab.wrong = "/health answers 503"
    for name, value in why.items():
        setattr(lab, name, value)
    lab.looks(20)
    assert (lab.machine.running, lab.restarts) == ("v1.2.3", [])


def test_without_a_state_a_hang_still_ends_in_a_restart(lab: Lab) -> None:
    lab.machine.store.state_file.write_text("garbage")
    lab.wrong = "/health does not answer"
    lab.looks(3)
    assert lab.restarts == ["v1.2.3"]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(["run-1", "run-2"])), max_size=30))
def test_failures_count_in_a_row_and_in_one_run_only(looks: list[tuple[bool, str]]) -> None:
    notes, row, last = Notes(), 0, ""
    for good, run in looks:
        notes = after_answer(notes, Api(run, 1), 1.0) if good else after_failure(notes, Api(run, 1))
        row = 0 if good else row + 1 if run == last else 1
        last = run
        assert notes.failures == row


@pytest.mark.parametrize("content", ["", "{", "[]", '{"run": 1, "more": 2}'])
def test_notes_that_can_t_be_read_are_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "notes").write_text(content)
    assert read_notes(tmp_path / "notes") == Notes()


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", ""),
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "/health answers 503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}", "/health does not answer (curl: (18)"),
        (b"SSH-2.0-OpenSSH_9\r\n", "/health does not answer (curl: (1)"),
        (b"", "/health does not answer (curl: (52)"),
        (None, "/health does not answer (curl: (28)"),
    ],
)
def test_only_200_is_a_good_answer(answer: bytes | None, wrong: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ended = threading.Event()

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(1000)
                if answer is None:
                    ended.wait(5)
                else:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        result = ""
        try:
            assert get_health(f"http://127.0.0.1:{listener.getsockname()[1]}/health", 0.5) == "{}"
        except HostError as error:
            result = str(error)
        ended.set()
        thread.join()
    assert result.startswith(wrong)
    assert (result == "") is (wrong == "")


def test_nobody_there_is_a_bad_answer() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HostError, match=r"^/health does not answer \(curl: \(7\)"):
        get_health(f"http://127.0.0.1:{port}/health", 1)


SCRIPT = ROOT / "infrastructure/packer/files/check-health.sh"


@pytest.mark.parametrize(
    ("status", "notes", "healthy", "calls"),
    [
        ('{"version": "v1", "on_probation": false}', False, True, False),
        ('{"version": "v1", "on_probation": false}', False, False, True),
        ('{"version": "v1", "on_probation": false}', True, True, True),
        ('{"version": "v1", "on_probation": true}', False, True, True),
        (None, False, True, True),
    ],
    ids=["well", "not well", "after a failure", "on probation", "nothing known"],
)
def test_python_is_started_only_when_there_is_something_to_decide(
    tmp_path: Path, status: str | None, notes: bool, healthy: bool, calls: bool
) -> None:
    script = tmp_path / "check-health.sh"
    text = SCRIPT.read_text().replace("/run/zmanim/", f"{tmp_path}/")
    script.write_text(text.replace("/opt/zmanim/zmanim-host", f"echo called {tmp_path}/zmanim-host"))
    (tmp_path / "curl").write_text(f"#!/bin/sh\nexit {0 if healthy else 22}\n")
    (tmp_path / "curl").chmod(0o755)
    if status:
        (tmp_path / "release.json").write_text(status)
    if notes:
        (tmp_path / "health.json").write_text("{}")
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("called") is calls
