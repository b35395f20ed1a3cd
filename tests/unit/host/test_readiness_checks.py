"""What readiness asks of the machine around it, by programs and files that stand in for the real ones."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import arguments, on_path
from zmanim_host import cli, readiness
from zmanim_host.host import ErrorNotes, HostError
from zmanim_host.storage import redis_files

# ---- The stores ----


def says(monkeypatch: pytest.MonkeyPatch, answer: str) -> list[str]:
    """Let psql answer, and return what it is asked."""
    asked: list[str] = []

    def psql(*words: str, timeout: float, user: str | None = None) -> str:
        assert user == "zmanim", "as the API itself would"
        asked.extend(words)
        return answer

    monkeypatch.setattr(readiness, "psql", psql)
    return asked


def test_postgresql_serves_when_a_row_comes_back_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(monkeypatch, "42 17.5\n")
    assert readiness.check_postgresql() == "17.5"
    assert "INSERT INTO probe" in asked[0]


def test_postgis_serves_when_it_knows_how_far_two_towns_are_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = says(monkeypatch, "54 3.5.3\n")
    assert readiness.check_postgis() == "3.5.3"
    assert "ST_Distance" in asked[0]


@pytest.mark.parametrize("answer", ["", "41 17.5", "5400 3.5.3"])
def test_another_answer_is_no_good_one(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    says(monkeypatch, answer)
    with pytest.raises(HostError, match="came back as"):
        readiness.check_postgresql()
    with pytest.raises(HostError, match="54 km expected"):
        readiness.check_postgis()


# Answers as Redis does; {keeps}: whether what is written reaches its append-only file.
REDIS = """
test "${{REDISCLI_AUTH}}" = hunter2 || {{ echo 'WRONGPASS' >&2; exit 0; }}
read -r set key value rest
cat >/dev/null
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
    monkeypatch.setattr(readiness, "RUN", here)
    return here


def test_redis_serves_when_what_it_was_given_is_in_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=True)
    assert readiness.check_redis(here / "data") == "7.2.16"
    assert all("hunter2" not in word for call in arguments(here, "redis-cli") for word in call)


def test_redis_that_keeps_nothing_is_told_even_when_it_says_that_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=False)
    (here / "data" / redis_files.FOLDER / "appendonly.aof.1.incr.aof").write_bytes(b"something else")
    monkeypatch.setattr(readiness.wait_until_written, "__kwdefaults__", _without_waiting())
    with pytest.raises(HostError, match="is in no append-only file"):
        readiness.check_redis(here / "data")


def _without_waiting() -> dict[str, Any]:
    return {"wait": 0.0, "sleep": lambda _: None, "clock": time.monotonic}


def test_redis_that_takes_no_password_of_ours_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_redis(tmp_path, monkeypatch, keeps=True, password="another")
    with pytest.raises(HostError, match="does not give back what was written: 'WRONGPASS'"):
        readiness.check_redis(here / "data")


def test_without_the_secrets_redis_can_t_be_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "RUN", tmp_path)
    with pytest.raises(HostError, match=r"see zmanim-secrets\.service"):
        readiness.check_redis(tmp_path)


def test_an_append_only_file_that_a_rewrite_has_just_removed_holds_nothing(tmp_path: Path) -> None:
    (tmp_path / "gone.incr.aof").symlink_to(tmp_path / "nowhere")
    with pytest.raises(HostError, match="is in no append-only file"):
        readiness.wait_until_written(tmp_path, b"value", wait=0)


def test_a_damaged_file_that_was_kept_is_an_alarm_that_names_it(tmp_path: Path) -> None:
    assert readiness.check_redis_files(tmp_path) == ""
    kept = tmp_path / "damaged-20261124T030000Z"
    kept.mkdir()
    with pytest.raises(HostError, match=f"kept for you: {kept}"):
        readiness.check_redis_files(tmp_path)


# ---- systemd ----


def test_a_unit_s_own_last_words_are_of_this_boot_and_on_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_path(tmp_path, monkeypatch, {"journalctl": "printf 'FATAL:  no\\n  space left\\n'"})
    assert readiness.last_words("redis.service") == "FATAL: no space left"
    (given,) = arguments(here, "journalctl")
    assert {"--boot", "--priority=err", "_SYSTEMD_UNIT=redis.service"} <= set(given)


def test_systemd_is_asked_for_one_property_of_one_unit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = on_path(tmp_path, monkeypatch, {"systemctl": "echo active"})
    assert readiness.unit_property("redis.service", "ActiveState") == "active"
    assert arguments(here, "systemctl") == [["show", "--value", "--property=ActiveState", "redis.service"]]


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


@pytest.mark.parametrize(("status", "body", "said"), [(503, b"{}", "/health answers 503"), (200, b"<html>", "/health")])
def test_another_answer_than_200_and_json_is_no_health(status: int, body: bytes, said: str) -> None:
    with api(status, body) as url, pytest.raises(HostError, match=said):
        readiness.ask_health(url)
    with pytest.raises(HostError, match=r"/health: .*refused"):
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


def healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("postgresql", "postgis", "redis", "release", "timers", "redis_files"):
        monkeypatch.setattr(readiness, f"check_{name}", lambda name=name: f"{name} is well")
    monkeypatch.setattr(readiness, "check_units", lambda notes: f"notes of {', '.join(notes) or 'none'}")
    monkeypatch.setattr(readiness, "earlier_errors", dict)
    monkeypatch.setattr(readiness, "wait_for_health", lambda: {"status": "ok"})
    monkeypatch.setattr(readiness, "binary_sha256", lambda: "a" * 64)
    monkeypatch.setattr(readiness, "seconds_since_boot", lambda: 3.6)


def refuse() -> str:
    raise HostError("not today")


def test_every_check_is_in_the_report_and_what_the_api_said_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    healthy(monkeypatch)
    told = readiness.examine()
    assert told["ok"] is True
    assert list(told["checks"]) == [
        "postgresql",
        "postgis",
        "redis",
        "api",
        "release",
        "units",
        "timers",
        "redis-files",
    ]
    assert (told["health"], told["binary_sha256"], told["seconds"]) == ({"status": "ok"}, "a" * 64, 3.6)
    assert told["checks"]["timers"]["detail"] == "timers is well"


@pytest.mark.parametrize(
    "name",
    ["check_postgresql", "check_postgis", "check_redis", "check_release", "check_timers", "binary_sha256"],
)
def test_a_required_check_that_fails_leaves_the_others_in_the_report(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    healthy(monkeypatch)
    monkeypatch.setattr(readiness, name, refuse)
    told = readiness.examine()
    assert told["ok"] is False
    assert [check["detail"] for check in told["checks"].values() if not check["ok"]] == ["not today"]
    assert len(told["checks"]) == 8


def test_redis_files_that_wait_for_somebody_are_an_alarm_on_a_machine_that_serves(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    healthy(monkeypatch)
    monkeypatch.setattr(readiness, "check_redis_files", refuse)
    told = readiness.examine()
    assert (told["ok"], told["checks"]["redis-files"]["ok"]) == (True, False)


class Machine:
    """A machine that `zmanim-host ready` examines: what it finds, what it told its console, what it ran."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, report: Path, *, ok: bool, was_ready: bool = False) -> None:
        self.console, self.ran = "", list[list[str]]()
        check = {"ok": ok, "required": True, "detail": ""}
        found = {"ok": ok, "checks": {"redis": check, "api": {**check, "ok": True}}}
        monkeypatch.setattr(readiness, "REPORT", report)
        monkeypatch.setattr(readiness, "examine", lambda: found)
        monkeypatch.setattr(readiness, "was_ready", lambda: was_ready)
        monkeypatch.setattr(readiness, "is_to_power_off", lambda: True)
        monkeypatch.setattr(readiness, "tell_console", self._told)
        monkeypatch.setattr(readiness, "run", lambda command, timeout: self.ran.append(command))

    def _told(self, text: str) -> None:
        self.console += text


def test_a_machine_that_serves_says_so_on_its_console_and_remembers_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, tmp_path / "ready.json", ok=True)
    readiness.command()
    assert machine.console.startswith("\nzmanim-ready {")
    assert json.loads((tmp_path / "ready.json").read_text())["was_ready"] is True
    assert machine.ran == []


def test_one_that_never_came_up_powers_off_when_its_launch_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, tmp_path / "ready.json", ok=False)
    with pytest.raises(HostError, match=r"not ready: redis$"):
        readiness.command()
    assert machine.ran == [["systemctl", "--no-block", "poweroff"]]
    assert "powering off" in machine.console
    assert json.loads((tmp_path / "ready.json").read_text())["was_ready"] is False


def test_one_that_has_served_stays_on_in_a_bad_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, tmp_path / "ready.json", ok=False, was_ready=True)
    with pytest.raises(HostError, match="not ready: redis"):
        readiness.command()
    assert machine.ran == []
    assert json.loads((tmp_path / "ready.json").read_text())["was_ready"] is True


# ---- The command line ----


def test_a_command_s_fault_is_noted_for_readiness_until_it_succeeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = ErrorNotes(tmp_path / "errors")
    monkeypatch.setattr(cli, "ErrorNotes", lambda: notes)
    outcome = [HostError("the disk is full"), None]

    def memory() -> None:
        fault = outcome.pop(0)
        if fault:
            raise fault

    monkeypatch.setattr(cli, "COMMANDS", {"memory": memory})
    assert cli.main(["memory"]) == 1
    assert notes.all() == {"memory": "the disk is full"}
    assert "ERROR: the disk is full" in capsys.readouterr().err
    assert cli.main(["memory"]) == 0
    assert notes.all() == {}


def test_a_person_s_or_a_script_s_command_gets_its_words_and_leaves_no_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given: list[object] = []

    def full(words: object) -> None:
        given.append(words)
        raise OSError(28, "No space left on device", "/data/x")

    monkeypatch.setattr(cli, "ErrorNotes", lambda: pytest.fail("a note would be an alarm of the machine's own"))
    monkeypatch.setattr(cli, "SCRIPT_COMMANDS", {"backup": given.append, "restore": full})
    monkeypatch.setattr(cli, "OPERATOR_COMMANDS", {"release-allow": given.append})
    assert cli.main(["backup", "step", "redis"]) == 0
    assert cli.main(["release-allow", "all"]) == 0
    assert cli.main(["restore"]) == 1
    assert given == [["step", "redis"], "all", []]
    assert "ERROR: [Errno 28] No space left on device: '/data/x'" in capsys.readouterr().err


def test_every_command_is_in_the_usage_with_what_it_does(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["release-allow"]) == 2, "without what it names"
    lines = capsys.readouterr().err.splitlines()
    every = {*cli.COMMANDS, *cli.OPERATOR_COMMANDS, *cli.SCRIPT_COMMANDS}
    assert {line.split()[0] for line in lines[1:]} == every
    assert "  release-allow BUNDLE" in "\n".join(lines)
    assert all(len(line.split()) > 3 for line in lines[1:]), "each says what it does"
