"""The second servers of a restore: on sockets of their own, with their own settings, stopped whatever happens."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.programs import arguments, on_path
from zmanim_host.backup import scratch
from zmanim_host.backup.scratch import Scratch
from zmanim_host.host import Clock, HostError
from zmanim_host.storage import redis_files

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
    return Scratch(tmp_path, None)


def with_postgresql(place: Scratch, monkeypatch: pytest.MonkeyPatch, server: str) -> Path:
    # It refuses connections at first, as one does that has just been started.
    psql = 'if [ -e "${HERE}/up" ]; then cat >"${HERE}/asked"; echo 1; else echo refused >&2; exit 2; fi'
    return on_path(place.directory, monkeypatch, {"initdb": "", "postgres": server, "psql": psql})


def test_a_directory_is_made_that_nobody_else_can_enter(tmp_path: Path) -> None:
    made = scratch.prepare(tmp_path / "one", None)
    assert made == Scratch(tmp_path / "one", None)
    assert {path.name for path in made.directory.iterdir()} == {"socket", "redis"}
    for path in (made.directory, made.directory / "socket", made.directory / "redis"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_root_gives_the_directory_to_the_user_that_the_servers_run_as(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    me = pwd.getpwuid(os.getuid())
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(os, "chown", lambda path, user, group: given.append((Path(path).name, user, group)))
    assert scratch.prepare(tmp_path / "one", me.pw_name).user == me.pw_name
    assert given == [(name, me.pw_uid, me.pw_gid) for name in ("one", "socket", "redis")]


def test_a_path_in_which_a_socket_would_not_fit_or_that_is_relative_is_refused(tmp_path: Path) -> None:
    for path in (Path("/tmp") / ("x" * scratch.LONGEST), Path("restored")):
        with pytest.raises(HostError, match="an absolute path of at most 90 characters"):
            scratch.prepare(path, None)
        assert not path.exists()


def test_nothing_is_restored_over_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(HostError, match="is not empty"):
        scratch.prepare(tmp_path, None)
    assert (tmp_path / "mine").exists()


def test_a_scratch_directory_is_removed_with_what_is_in_it_and_one_that_is_gone_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "one/postgres").mkdir(parents=True)
    scratch.remove(tmp_path / "one")
    assert not (tmp_path / "one").exists()
    scratch.remove(tmp_path / "one")


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


def test_a_server_that_ends_in_another_way_than_asked_leaves_no_good_files(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_postgresql(place, monkeypatch, SERVER.format(signal="INT", code=3))
    with pytest.raises(HostError, match="postgres did not stop cleanly: exit code 3"), place.running_postgresql():
        pass


def test_the_second_redis_loads_the_snapshot_as_the_base_of_an_append_only_file(
    place: Scratch, monkeypatch: pytest.MonkeyPatch
) -> None:
    (place.redis / redis_files.SNAPSHOT).write_bytes(b"REDIS0011")
    # It says that it loads for a while, and answers nothing before that.
    cli = 'test -e "${HERE}/up" || exit 1\nif [ -e "${HERE}/one" ]; then echo loading:0; else echo loading:1; fi\n'
    programs = {
        "redis-server": SERVER.format(signal="TERM", code=0),
        "redis-cli": f'{cli}touch "${{HERE}}/one"',
        "redis-check-aof": "",
    }
    here = on_path(place.directory, monkeypatch, programs)
    with place.running_redis() as ask:
        assert (place.redis / redis_files.FOLDER / redis_files.BASE).read_bytes() == b"REDIS0011"
        assert ask("GET a-key") == "loading:0\n"
    assert (here / "stopped").read_text() == "TERM\n"
    (started,) = arguments(here, "redis-server")
    options = dict(zip(started[::2], started[1::2], strict=True))
    assert options["--port"] == "0"
    assert options["--maxmemory"] == "0", "nothing of what was restored is evicted"
    assert options["--save"] == "", "nothing is saved over it"
    assert arguments(here, "redis-cli")[-1] == ["-s", str(place.directory / "socket/redis.sock"), "GET", "a-key"]
