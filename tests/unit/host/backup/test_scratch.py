"""The second servers of a restore: in the sandbox, with their own settings, stopped whatever happens."""

from __future__ import annotations

import hashlib
import io
import os
import pwd
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.programs import SANDBOX, arguments, on_path
from zmanim_host import limits
from zmanim_host.backup import scratch
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import Clock, HostError

ME = pwd.getpwuid(os.getuid()).pw_name
# Runs until it gets the signal $1 names, and says that it did.
SERVER = """
trap 'echo {signal} >"${{HERE}}/stopped"; exit {code}' {signal}
touch "${{HERE}}/up"
while :; do sleep 0.01; done
"""


@pytest.fixture
def place(tmp_path: Path) -> Scratch:
    for name in ("socket", "redis"):
        (tmp_path / name).mkdir()
    return Scratch(tmp_path)


def with_postgresql(place: Scratch, monkeypatch: pytest.MonkeyPatch, server: str) -> Path:
    # It refuses connections at first, as one does that has just been started.
    psql = 'if [ -e "${HERE}/up" ]; then cat >"${HERE}/asked"; echo 1; else echo refused >&2; exit 2; fi'
    return on_path(place.directory, monkeypatch, {**SANDBOX, "initdb": "", "postgres": server, "psql": psql})


def test_only_root_makes_anything_in_the_directory_and_only_the_lesser_user_enters_what_is_below(
    tmp_path: Path,
) -> None:
    made = scratch.prepare(tmp_path / "one", ME)
    assert made == Scratch(tmp_path / "one")
    assert {path.name for path in made.directory.iterdir()} == {"postgres", "redis", "socket"}
    assert stat.S_IMODE(made.directory.stat().st_mode) == 0o711
    for path in made.directory.iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_path_in_which_a_socket_would_not_fit_or_that_is_relative_is_refused() -> None:
    for path in (Path("/tmp") / ("x" * scratch.LONGEST), Path("restored")):
        with pytest.raises(HostError, match="an absolute path of at most 90 characters"):
            scratch.prepare(path, ME)
        assert not path.exists()


@pytest.mark.incident("root wrote by path into a directory that was a lesser user's, who put a link there in time")
def test_a_directory_that_somebody_could_exchange_is_refused(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    for path in (tmp_path / "link", tmp_path / "link/below"):
        with pytest.raises(HostError, match="is a link or another user's"):
            scratch.prepare(path, ME)


def test_nothing_is_restored_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(HostError, match="is not empty"):
        scratch.prepare(tmp_path, ME)
    assert (tmp_path / "mine").exists()


def test_a_scratch_directory_is_removed_with_what_is_in_it_and_one_that_is_gone_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = on_path(tmp_path / "programs", monkeypatch, SANDBOX)
    (tmp_path / "one/postgres").mkdir(parents=True)
    scratch.remove(tmp_path / "one")
    assert not (tmp_path / "one").exists()
    scratch.remove(tmp_path / "one")
    assert arguments(here, "systemctl")[0] == ["stop", "zmanim-scratch.slice"], "what a killed one left is ended first"


def test_the_second_postgresql_is_waited_for_and_listens_on_its_own_socket_only(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=0))
    with place.running_postgresql() as server:
        assert server.socket == str(place.directory / "socket")
        assert not (here / "stopped").exists()
    assert (here / "stopped").read_text() == "INT\n", "a fast shutdown: sessions are ended, the files are whole"
    made, started, calls = (arguments(here, name)[0] for name in ("initdb", "postgres", "psql"))
    assert {f"--pgdata={place.postgres}", "--auth=trust"} <= set(made)
    assert started[:2] == ["-D", str(place.postgres)]
    assert {"--listen_addresses=", f"--unix_socket_directories={here}/socket", "--fsync=off"} <= set(started)
    assert "--cron.launch_active_jobs=off" in started, "no job of the restored database runs here"
    assert f"--host={here}/socket" in calls
    assert (here / "asked").read_text() == "SELECT 1;\n"


def test_every_program_that_touches_what_is_restored_runs_in_the_sandbox(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=0))
    with place.running_postgresql():
        place.sync()
    calls = arguments(here, "systemd-run")
    started = [call[call.index("--") + 1] for call in calls]
    assert started[0] == "initdb"
    assert set(started) == {"initdb", "postgres", "psql"}
    for call in calls:
        properties = {word for word in call if word.startswith("--property=")}
        assert {
            "--property=User=zmanim-scratch",
            "--property=PrivateNetwork=yes",
            "--property=TemporaryFileSystem=/run:ro /data:ro",
            f"--property=BindPaths={place.directory}",
            "--property=CapabilityBoundingSet=",
            "--property=NoNewPrivileges=yes",
        } <= properties
        assert "--slice=zmanim-scratch.slice" in call
        assert not [word for word in call if word.startswith("--setenv=") and word != "--setenv=PGOPTIONS"]


def test_a_server_is_stopped_when_the_restore_into_it_fails(place: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=0))
    with pytest.raises(HostError, match="a damaged dump"), place.running_postgresql():
        raise HostError("a damaged dump")
    assert (here / "stopped").exists()


def test_a_server_that_does_not_start_is_an_error_with_its_own_last_words(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_postgresql(place, monkeypatch, "echo 'FATAL: no shared memory' >&2; exit 1")
    with pytest.raises(HostError, match=r"(?s)postgres does not start: .*no shared memory"), place.running_postgresql():
        pytest.fail("it never answered")


def test_a_server_that_never_answers_is_given_up_and_stopped(place: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=0))
    calls: list[float] = []

    def clock() -> float:
        # Its time is over when it runs, however long it takes until then.
        calls.append(scratch.PATIENCE + 1 if calls and (here / "up").exists() else 0.0)
        return calls[-1]

    on_path(here / "silent", monkeypatch, {"psql": "exit 2"})
    waited = replace(place, clock=Clock(clock))
    with pytest.raises(HostError, match="postgres does not start"), waited.running_postgresql():
        pytest.fail("it never answered")
    assert (here / "stopped").read_text() == "INT\n"


@pytest.mark.incident("a proof's limit of time was lost while a scratch server started: it had none any longer")
def test_the_end_of_the_time_ends_a_server_s_start_as_well(place: Scratch, monkeypatch: pytest.MonkeyPatch) -> None:
    here = with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=0))
    on_path(here / "silent", monkeypatch, {"psql": "exit 2"})
    with pytest.raises(limits.PutOff), limits.time_limit(2), place.running_postgresql():
        pytest.fail("it never answered")
    assert (here / "stopped").read_text() == "INT\n"


def test_a_server_that_ends_in_another_way_than_asked_leaves_no_good_files(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=3))
    with pytest.raises(HostError, match="postgres did not stop cleanly: exit code 3"), place.running_postgresql():
        pass


def test_the_second_redis_loads_the_snapshot_and_writes_nothing(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    # It says that it loads for a while, and answers nothing before that.
    cli = 'test -e "${HERE}/up" || exit 1\nif [ -e "${HERE}/one" ]; then echo loading:0; else echo loading:1; fi\n'
    programs = {"redis-server": SERVER.format(signal="TERM", code=0), "redis-cli": f'{cli}touch "${{HERE}}/one"'}
    here = on_path(place.directory, monkeypatch, {**SANDBOX, **programs})
    assert place.receive(io.BytesIO(b"REDIS0011")) == hashlib.sha256(b"REDIS0011").hexdigest()
    with place.running_redis() as ask:
        assert ask("GET a-key") == "loading:0\n"
    assert (here / "stopped").read_text() == "TERM\n"
    (started,) = arguments(here, "redis-server")
    options = dict(zip(started[::2], started[1::2], strict=True))
    assert options["--port"] == "0"
    assert options["--maxmemory"] == "0", "nothing of what was restored is evicted"
    assert (options["--save"], options["--appendonly"]) == ("", "no"), "nothing is saved over it"
    assert arguments(here, "redis-cli")[-1] == ["-s", str(place.directory / "socket/redis.sock"), "GET", "a-key"]
    assert {path.name for path in place.redis.iterdir()} == {"dump.rdb"}


@pytest.mark.incident("root wrote Redis's file through a link: chosen bytes into any file of the machine")
def test_redis_s_file_is_written_by_the_lesser_user_and_over_nothing(
    place: Scratch, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    on_path(place.directory, monkeypatch, SANDBOX)
    place.snapshot.symlink_to(tmp_path / "victim")
    with pytest.raises(HostError, match="File exists"):
        place.receive(io.BytesIO(b"REDIS0011"))
    assert not (tmp_path / "victim").exists()


@pytest.mark.parametrize(("loading", "loaded"), [(0, True), (1, False)])
def test_a_scratch_redis_is_full_when_it_says_that_it_loads_nothing_any_more(*, loading: int, loaded: bool) -> None:
    assert scratch.is_loaded(f"# Persistence\r\nloading:{loading}\r\nasync_loading:0\r\n") is loaded
