"""Sessions that are deaf to what roles and databases set: what they are given, and by whom the values were."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.programs import on_path
from zmanim_host import sessions
from zmanim_host.postgres import Server
from zmanim_host.storage import database

# Answers with what is set, and says otherwise which options it was given.
PSQL = """
case "$*" in *pg_db_role_setting*) printf '%s' "${PGOPTIONS}" >"${HERE}/first"; cat "${HERE}/set"; exit ;; esac
printf '%s\\n' "${PGOPTIONS}"
"""
SET = '["transaction_timeout", "0", "0"]\n["work_mem", "4096", "4096"]\n["TimeZone", "UTC", "GMT"]\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    on_path(tmp_path, monkeypatch, {"psql": PSQL})
    (tmp_path / "set").write_text(SET)
    return tmp_path


def options(server: Server, database: str) -> dict[str, str]:
    """What a session of the server's is given."""
    given = server.query(database, "SELECT 1;")[0]
    return dict(word.split("=", 1) for word in given.removeprefix("-c ").split(" -c "))


@pytest.mark.incident("the API set transaction_timeout on its database, and every backup was killed after 60 s")
def test_what_is_set_for_a_database_has_the_value_that_it_has_without(here: Path) -> None:
    given = options(Server(role="zmanim_backup"), "zmanim")
    assert (given["transaction_timeout"], given["work_mem"], given["TimeZone"]) == ("0", "4096", "UTC")


@pytest.mark.incident("ALTER DATABASE … SET role made the superuser's session the API's")
@pytest.mark.parametrize("role", ["postgres", "zmanim_backup", "zmanim"])
def test_some_are_always_ours(here: Path, role: str) -> None:
    (here / "set").write_text('["search_path", "x", "x"]\n')
    given = options(Server(role=role, configuration=here / "set"), "zmanim")
    assert (given["search_path"], given["role"], given["local_preload_libraries"]) == ("pg_catalog", "none", "")
    # Another role is refused that only names them.
    for name in ("event_triggers", "session_preload_libraries"):
        assert (name in given) == (role == "postgres")


def test_in_the_database_that_is_asked_nothing_has_to_be_undone(here: Path) -> None:
    assert "work_mem" not in options(Server(role="postgres"), "postgres")
    assert not (here / "first").exists()


def test_who_asks_what_is_set_outlives_any_limit_that_is(here: Path) -> None:
    Server(role="zmanim_backup").query("zmanim", "SELECT 1;")
    first = (here / "first").read_text()
    for name in ("statement_timeout", "transaction_timeout", "idle_session_timeout"):
        assert f"-c {name}=0" in first


def test_the_api_s_role_gets_what_the_server_is_configured_with_whatever_it_has_set_for_itself(here: Path) -> None:
    included, configuration = here / "sized.conf", here / "postgresql.conf"
    included.write_text("work_mem = 8MB\n")
    configuration.write_text(f"# a comment\ntimezone = 'Etc/UTC' # ours\nwork_mem = 16MB\ninclude = '{included}'\n")
    given = options(Server(configuration=configuration), "zmanim")
    assert (given["transaction_timeout"], given["work_mem"], given["TimeZone"]) == ("0", "8MB", "Etc/UTC")


def test_a_value_keeps_its_spaces_and_backslashes() -> None:
    # libpq takes the option's words apart at spaces, unless a backslash is before them.
    assert sessions.pgoptions({"DateStyle": "ISO, DMY", "x": "a\\b"}) == "-c DateStyle=ISO,\\ DMY -c x=a\\\\b"


@pytest.mark.incident("CONNECTION LIMIT 0, and no backup from then on")
def test_what_no_session_can_undo_is_put_right_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = 'cat >"${HERE}/asked.$$"; grep -q json_build_array "${HERE}/asked.$$" && cat "${HERE}/wrong" || :'
    here = on_path(tmp_path, monkeypatch, {"psql": script})
    (here / "wrong").write_text('["zmanim", "limits its connections", "ALTER DATABASE zmanim CONNECTION LIMIT -1;"]\n')
    assert database.put_right(Server(role="postgres")) == ["the database zmanim limits its connections"]
    assert "limits its connections. Who set that?" in capsys.readouterr().err
    asked = [path.read_text() for path in here.glob("asked.*")]
    assert "ALTER DATABASE zmanim CONNECTION LIMIT -1;\n" in asked
    (here / "wrong").write_text("")
    assert database.put_right(Server(role="postgres")) == []
    assert capsys.readouterr().err == ""
