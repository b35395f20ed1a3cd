"""What readiness asks of the machine around it, by programs and files that stand in for the real ones."""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import arguments, on_path
from zmanim_host import cli, readiness, systemd
from zmanim_host.host import Clock, ErrorNotes, HostError
from zmanim_host.postgres import Server
from zmanim_host.storage import redis_checks, redis_files

# A clock on which every time limit is over at the second look.
IMPATIENT = Clock(itertools.count(0, 1000).__next__, lambda _: None)

# ---- The stores ----


@dataclass(frozen=True)
class Answering(Server):
    """A PostgreSQL that gives one answer; `queries` is what it was asked."""

    answer: str = ""
    queries: list[str] = field(default_factory=list)

    def psql(self, *arguments: str, database: str = "", timeout: float, input: str | None = None) -> str:
        self.queries.extend(arguments)
        return self.answer


def test_postgresql_is_asked_as_the_api_itself_would() -> None:
    assert (readiness.DATABASE.role, readiness.DATABASE.user) == ("zmanim", "zmanim")


def test_postgresql_serves_when_a_row_comes_back_as_it_was_written() -> None:
    server = Answering(answer="42 17.5\n")
    assert readiness.check_postgresql(server) == "17.5"
    assert "INSERT INTO probe" in server.queries[0]


def test_postgis_serves_when_it_knows_how_far_two_towns_are_apart() -> None:
    server = Answering(answer="54 3.5.3\n")
    assert readiness.check_postgis(server) == "3.5.3"
    assert "ST_Distance" in server.queries[0]


@pytest.mark.parametrize("answer", ["", "41 17.5", "5400 3.5.3"])
def test_another_answer_is_no_good_one(answer: str) -> None:
    with pytest.raises(HostError, match="came back as"):
        readiness.check_postgresql(Answering(answer=answer))
    with pytest.raises(HostError, match="54 expected"):
        readiness.check_postgis(Answering(answer=answer))


# Answers as Redis does; {keeps}: whether what is written reaches its append-only file.
REDIS = """
test "${{REDISCLI_AUTH}}" = hunter2 || {{ echo 'WRONGPASS' >&2; exit 0; }}
cat >"${{HERE}}/words"
read -r command key value rest <"${{HERE}}/words"
test "${{command}}" = PING && value=PONG
printf 'OK\\n%s\\nloading:0\\naof_enabled:1\\nrdb_last_bgsave_status:ok\\naof_last_write_status:ok\\n' "${{value}}"
echo redis_version:7.2.16
{keeps} && echo "${{value}}" >>"${{HERE}}/data/appendonlydir/appendonly.aof.1.incr.aof"
exit 0
"""


def with_redis(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, keeps: bool, password: str = "hunter2") -> Path:
    here = on_path(tmp_path, monkeypatch, {"redis-cli": REDIS.format(keeps=str(keeps).lower())})
    (here / "data" / redis_files.FOLDER).mkdir(parents=True)
    (here / "secrets/ready").mkdir(parents=True)
    (here / "secrets/ready/redis-password").write_text(password)
    return here


def test_redis_serves_when_what_it_was_given_is_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=True)
    assert redis_checks.check_redis(here / "data", here) == "7.2.16"
    assert all("hunter2" not in word for call in arguments(here, "redis-cli") for word in call)


def test_redis_that_keeps_nothing_is_told_even_when_it_says_that_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=False)
    (here / "data" / redis_files.FOLDER / "appendonly.aof.1.incr.aof").write_bytes(b"something else")
    with pytest.raises(HostError, match="is in no append-only file"):
        redis_checks.check_redis(here / "data", here, IMPATIENT)


def test_redis_that_takes_no_password_of_ours_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=True, password="another")
    with pytest.raises(HostError, match="does not give back what was written: 'WRONGPASS'"):
        redis_checks.check_redis(here / "data", here)


def test_redis_is_asked_every_minute_without_a_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=False)
    assert redis_checks.check_alive(here) == "7.2.16"
    assert "SET" not in (here / "words").read_text()
    (here / "secrets/ready/redis-password").write_text("another")
    with pytest.raises(HostError, match="WRONGPASS"):
        redis_checks.check_alive(here)


def test_without_the_secrets_redis_can_t_be_asked(tmp_path: Path) -> None:
    with pytest.raises(HostError, match=r"see zmanim-secrets\.service"):
        redis_checks.check_redis(tmp_path, tmp_path)


def test_an_append_only_file_that_a_rewrite_has_just_removed_holds_nothing(tmp_path: Path) -> None:
    assert redis_checks.read_tail(tmp_path, f"{redis_files.FOLDER}/gone.incr.aof") == b""
    with pytest.raises(HostError, match="is in no append-only file"):
        redis_checks.wait_until_written(tmp_path, b"value", IMPATIENT)


@pytest.mark.incident("root followed links that a lesser user had made, and printed what they led to")
def test_redis_s_file_is_looked_at_where_redis_has_it_and_nowhere_else(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a.incr.aof").write_bytes(b"value")
    folder = tmp_path / redis_files.FOLDER
    folder.symlink_to("elsewhere")
    with pytest.raises(HostError, match="without links on the way"):
        redis_checks.wait_until_written(tmp_path, b"value", IMPATIENT)
    folder.unlink()
    folder.mkdir()
    # A pipe would have kept zmanim-ready waiting until systemd ended it.
    os.mkfifo(folder / "b.incr.aof")
    with pytest.raises(HostError, match="is not a plain file"):
        redis_checks.wait_until_written(tmp_path, b"value", IMPATIENT)


def test_a_damaged_file_that_was_kept_is_an_alarm_that_names_it(tmp_path: Path) -> None:
    assert readiness.check_redis_files(tmp_path) == ""
    damaged = tmp_path / "damaged-20261124T030000Z"
    damaged.mkdir()
    with pytest.raises(HostError, match=f"kept: {damaged}"):
        readiness.check_redis_files(tmp_path)


# ---- systemd ----


def test_a_unit_s_own_last_words_are_of_this_boot_and_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_path(tmp_path, monkeypatch, {"journalctl": "printf 'FATAL:  no\\n  space left\\n'"})
    assert readiness.last_errors("redis.service") == "FATAL: no space left"
    (given,) = arguments(here, "journalctl")
    assert {"--boot", "--priority=err", "_SYSTEMD_UNIT=redis.service"} <= set(given)


def test_systemd_is_asked_for_one_property_of_one_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = on_path(tmp_path, monkeypatch, {"systemctl": "echo ActiveState=active"})
    assert systemd.active_state("redis.service") == "active"
    assert arguments(here, "systemctl") == [["show", "--property=ActiveState", "redis.service"]]


# ---- The API ----


@contextmanager
def api(status: int, body: bytes) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *words: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/health"
        finally:
            server.shutdown()
            thread.join()


def test_health_is_the_api_s_own_json() -> None:
    with api(200, b'{"status": "ok"}') as url:
        assert readiness.ask_health(url) == {"status": "ok"}


@pytest.mark.parametrize(
    ("status", "body", "message"), [(503, b"{}", "/health answers 503"), (200, b"<html>", "/health")]
)
def test_another_answer_than_200_and_json_is_no_health(status: int, body: bytes, message: str) -> None:
    with api(status, body) as url, pytest.raises(HostError, match=message):
        readiness.ask_health(url)
    with pytest.raises(HostError, match=r"^/health does not answer \(curl: \(7\)"):
        readiness.ask_health(url)


# ---- The report ----


def test_the_report_names_the_release_in_force_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "v1.2.3").mkdir()
    (tmp_path / "current").symlink_to("v1.2.3")
    assert readiness.release_version(tmp_path / "current") == "v1.2.3"
    assert readiness.environment_name(tmp_path / "environment") == ""
    (tmp_path / "environment").write_text("AWS_REGION=eu-west-1\nZMANIM_ENVIRONMENT=prod\n")
    assert readiness.environment_name(tmp_path / "environment") == "prod"


def test_the_seconds_count_from_when_process_1_began(tmp_path: Path) -> None:
    began = 5 * os.sysconf("SC_CLK_TCK")
    (tmp_path / "1").mkdir()
    # A program's name may have spaces and parentheses.
    (tmp_path / "1/stat").write_text(f"1 (odd) name) S {'0 ' * 18}{began} 0 0")
    before = time.clock_gettime(time.CLOCK_BOOTTIME) - 5
    assert before <= readiness.seconds_since_boot(tmp_path) <= time.clock_gettime(time.CLOCK_BOOTTIME) - 5


API = readiness.RunningApi({"status": "ok"}, "a" * 64)
# Every check of the image's own, well.
REQUIRED = {name: lambda name=name: f"{name} is well" for name in readiness.REQUIRED}
WANTED = {name: lambda name=name: f"{name} is well" for name in readiness.WANTED}


def refuse() -> Any:
    raise HostError("not today")


def test_every_check_is_in_the_report_and_what_the_api_said_of_itself() -> None:
    result = readiness.examine(lambda: API, REQUIRED, WANTED)
    assert result["ok"] is True
    assert list(result["checks"]) == [
        "api",
        "postgresql",
        "postgis",
        "redis",
        "release",
        "units",
        "timers",
        "redis-files",
        "extensions",
        "base-units",
        "mail",
    ]
    assert (result["health"], result["binary_sha256"]) == ({"status": "ok"}, "a" * 64)
    assert 0 < result["seconds"] == round(result["seconds"], 1)
    assert result["checks"]["timers"]["detail"] == "timers is well"


@pytest.mark.parametrize("name", ["api", *readiness.REQUIRED])
def test_a_required_check_that_fails_leaves_the_others_in_the_report(name: str) -> None:
    if name == "api":
        result = readiness.examine(refuse, REQUIRED, WANTED)
    else:
        result = readiness.examine(lambda: API, {**REQUIRED, name: refuse}, WANTED)
    assert result["ok"] is False
    assert [check["detail"] for check in result["checks"].values() if not check["ok"]] == ["not today"]
    assert len(result["checks"]) == 1 + len(REQUIRED) + len(WANTED)


def test_redis_files_that_wait_for_somebody_are_an_alarm_on_a_machine_that_serves() -> None:
    result = readiness.examine(lambda: API, REQUIRED, {"redis-files": refuse})
    assert (result["ok"], result["checks"]["redis-files"]["ok"]) == (True, False)


class Machine:
    """A machine that publishes its report: what its console got, and what it ran."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.console = ""
        self.report = directory / "ready.json"
        self._programs = on_path(directory / "programs", monkeypatch, {"systemctl": ""})

    def publish(self, *, ok: bool) -> None:
        check = {"ok": ok, "required": True, "detail": ""}
        report = {"ok": ok, "checks": {"redis": check, "api": {**check, "ok": True}}}
        readiness.publish(report, self.report, console=self._write)

    def _write(self, text: str) -> None:
        self.console += text

    @property
    def ran(self) -> list[list[str]]:
        return arguments(self._programs, "systemctl")

    @property
    def was_ready(self) -> bool:
        return bool(json.loads(self.report.read_text())["was_ready"])


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return Machine(tmp_path, monkeypatch)


def test_a_machine_that_serves_says_so_on_its_console_and_remembers_it(machine: Machine) -> None:
    machine.publish(ok=True)
    assert machine.console.startswith("\nzmanim-ready ")
    assert machine.was_ready
    assert machine.ran == []


def test_one_that_never_came_up_and_one_that_has_served_are_told_apart(machine: Machine) -> None:
    with pytest.raises(HostError, match=r"not ready: redis$"):
        machine.publish(ok=False)
    assert not machine.was_ready
    machine.publish(ok=True)
    with pytest.raises(HostError, match=r"not ready: redis$"):
        machine.publish(ok=False)
    assert machine.was_ready


@pytest.mark.incident("the API's process could write into zmanim-ready's psql, which might ask for the instance's role")
def test_whoever_asks_the_launch_is_not_who_runs_programs_as_the_api_s_user(machine: Machine) -> None:
    with pytest.raises(HostError, match="not ready"):
        machine.publish(ok=False)
    assert machine.ran == []


# ---- The command line ----


def test_a_command_s_error_is_noted_for_readiness_until_it_succeeds(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = ErrorNotes(tmp_path / "errors")
    outcome = [HostError("the disk is full"), None]

    def memory() -> None:
        error = outcome.pop(0)
        if error:
            raise error

    assert cli.main(["memory"], units={"memory": memory}, notes=notes) == 1
    assert notes.all() == {"memory": "the disk is full"}
    assert "ERROR: the disk is full" in capsys.readouterr().err
    assert cli.main(["memory"], units={"memory": memory}, notes=notes) == 0
    assert notes.all() == {}


def test_a_person_s_or_a_script_s_command_gets_its_words_and_leaves_no_note(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []
    notes = ErrorNotes(tmp_path / "errors")

    def full(words: object) -> None:
        given.append(words)
        raise OSError(28, "No space left on device", "/data/x")

    scripts = {"backup": given.append, "restore": full}
    main = partial(cli.main, scripts=scripts, operators={"release-allow": given.append}, notes=notes)
    assert main(["backup", "step", "redis"]) == 0
    assert main(["release-allow", "all"]) == 0
    assert main(["restore"]) == 1
    assert given == [["step", "redis"], "all", []]
    assert "ERROR: [Errno 28] No space left on device: '/data/x'" in capsys.readouterr().err
    assert notes.all() == {}, "a note would be an alarm of the machine's own"


def test_every_command_is_in_the_usage_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["release-allow"]) == 2, "without what it names"
    lines = capsys.readouterr().err.splitlines()
    every = {*cli.COMMANDS, *cli.OPERATOR_COMMANDS, *cli.SCRIPT_COMMANDS}
    assert {line.split()[0] for line in lines[1:]} == every
    assert "  release-allow BUNDLE" in "\n".join(lines)
    assert all(len(line.split()) > 3 for line in lines[1:]), "each says what it does"
