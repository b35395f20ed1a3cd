"""What a backup asks PostgreSQL and Redis, by their own programs, and what it makes of the answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.support.programs import arguments, on_path
from zmanim_host import postgres
from zmanim_host.aws import metrics
from zmanim_host.aws.metrics import Metric
from zmanim_host.host import HostError
from zmanim_host.postgres import Server, Survey
from zmanim_host.storage.redis_files import Keys, rdb_keys

# Says what the test has written down for it, and keeps what it was asked; nothing is set for any role or database.
NOTHING_SET = 'case "$*" in *pg_db_role_setting*) exit 0 ;; esac'
PSQL = 'cat >"${HERE}/asked"; cat "${HERE}/answer"'


def answering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *lines: str, psql: str = PSQL) -> Path:
    here = on_path(tmp_path, monkeypatch, {"psql": f"{NOTHING_SET}\n{psql}"})
    (here / "answer").write_text("".join(f"{line}\n" for line in lines))
    return here


def databases(*names: str) -> list[str]:
    """What psql says of databases; their names are written as in JSON."""
    return [f'["{name}", true, -1]' for name in ("postgres", *names)]


def test_a_query_goes_in_by_stdin_and_stops_at_its_first_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = answering(tmp_path, monkeypatch, "one|1", "two|2")
    assert Server("/run/x", "me").query("zmanim", "SELECT 1;") == ["one|1", "two|2"]
    assert (here / "asked").read_text() == "SELECT 1;\n"
    given = arguments(here, "psql")[-1]
    assert {"--no-psqlrc", "--no-password", "--set=ON_ERROR_STOP=1"} <= set(given)
    assert {"--host=/run/x", "--username=me", "--dbname=zmanim"} <= set(given)


def test_databases_and_roles_are_told_apart_line_by_line_whatever_they_are_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path / "databases", monkeypatch, *databases('with \\"quotes\\" and spaces', "zmanim"))
    assert Server().databases() == ["postgres", 'with "quotes" and spaces', "zmanim"]
    here = answering(tmp_path, monkeypatch, '"postgres"', '"with \\"quotes\\" and spaces"')
    assert Server().roles() == ("postgres", 'with "quotes" and spaces')
    assert "!~ '^pg_'" in (here / "asked").read_text()


@pytest.mark.parametrize("name", ["a\\nb", "../etc", "--file=x"])
def test_a_database_whose_name_could_be_a_path_an_option_or_two_lines_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    answering(tmp_path, monkeypatch, *databases(name, "zmanim"))
    with pytest.raises(HostError, match="names that can't be backed up"):
        Server().databases()


@pytest.mark.incident("ALTER DATABASE zmanim IS_TEMPLATE true, and every backup left it out without a word")
def test_a_database_that_its_owner_calls_a_template_is_backed_up_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = answering(tmp_path, monkeypatch, *databases("template0", "template1", "zmanim"))
    assert Server().databases() == ["postgres", "zmanim"]
    assert "datistemplate" not in (here / "asked").read_text()


@pytest.mark.incident("after a DROP DATABASE zmanim every run was complete, and in 105 days no good one was left")
def test_without_the_application_s_database_there_is_nothing_to_back_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, monkeypatch, *databases("second"))
    with pytest.raises(HostError, match="the database zmanim is not there"):
        Server().databases()


@pytest.mark.parametrize("row", ['["second", false, -1]', '["second", true, -2]'])
def test_a_database_that_can_t_be_read_is_refused_and_not_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, row: str
) -> None:
    answering(tmp_path, monkeypatch, '["template0", false, -1]', row, *databases("zmanim"))
    with pytest.raises(HostError, match=r"nobody can connect to the databases \['second'\]"):
        Server().databases()


def test_the_cluster_says_which_one_it_is_and_of_which_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = answering(tmp_path, monkeypatch, "170012")
    assert Server().version() == "170012"
    assert "server_version_num" in (here / "asked").read_text()
    assert Server().system_identifier() == "170012"
    assert "pg_control_system" in (here / "asked").read_text()


ROWS = ('["rows", "public.users", 3]', '["extension", "postgis", "3.5.3"]')


def test_a_survey_counts_rows_and_notes_extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(tmp_path, monkeypatch, *ROWS)
    assert Server().survey("zmanim") == Survey({"public.users": 3}, {"postgis": "3.5.3"})


def test_an_exported_snapshot_lasts_as_long_as_the_dump_and_no_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psql = f'cat "${{HERE}}/answer"; echo "{postgres.END}"; cat >"${{HERE}}/asked"; touch "${{HERE}}/closed"'
    here = answering(tmp_path, monkeypatch, '["snapshot", "0003-1", ""]', *ROWS, psql=psql)
    with Server().exported("zmanim") as result:
        assert result == Survey({"public.users": 3}, {"postgis": "3.5.3"}, "0003-1")
        assert not (here / "closed").exists()
    assert (here / "closed").exists()
    calls = (here / "asked").read_text()
    assert "REPEATABLE READ READ ONLY" in calls
    assert "idle_in_transaction_session_timeout = 0" in calls, "or postgresql.conf ends the session under a long dump"


def test_a_session_that_ends_before_its_end_mark_is_an_error_with_psqls_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering(tmp_path, monkeypatch, *ROWS, psql='cat "${HERE}/answer"; echo "connection lost" >&2; exit 2')
    with (
        pytest.raises(HostError, match="the database zmanim can't be read: connection lost"),
        Server().exported("zmanim"),
    ):
        pytest.fail("half a survey is none")


def test_a_session_that_ends_without_listening_is_told_by_psqls_words_and_not_by_a_broken_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # More than a pipe holds: the writer is still at it when the reader goes.
    many_tables = "-- \n" * (1 << 18)
    answering(tmp_path, monkeypatch, psql='echo "no such socket" >&2; exit 2')
    with (
        pytest.raises(HostError, match="the database zmanim can't be read: no such socket"),
        Server().exported("zmanim", many_tables),
    ):
        pytest.fail("there is no survey")


def test_redis_s_own_check_counts_the_keys_of_a_snapshot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output = "[info] 7 keys read\\n[info] 3 expires\\n[info] 1 already expired\\n"
    on_path(tmp_path, monkeypatch, {"redis-check-rdb": f"printf '{output}'"})
    assert rdb_keys(tmp_path / "dump.rdb") == Keys(lasting=4, expiring=3, expired=1)


@pytest.mark.parametrize(
    "check", ["echo '--- RDB ERROR DETECTED ---'; exit 1", "printf '[info] 7 keys read\\n'", "kill -9 $$"]
)
def test_a_snapshot_that_is_damaged_or_cut_short_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: str
) -> None:
    on_path(tmp_path, monkeypatch, {"redis-check-rdb": check})
    with pytest.raises(HostError, match=r"dump\.rdb is no whole snapshot of Redis"):
        rdb_keys(tmp_path / "dump.rdb")


def test_psql_asks_the_local_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = answering(tmp_path, monkeypatch, "1")
    assert Server().psql("--command=SELECT 1", timeout=5) == "1\n"
    given = arguments(here, "psql")[-1]
    assert {"--host=/run/postgresql", "--username=zmanim", "--dbname=zmanim", "--no-psqlrc"} <= set(given)
    assert given[-1] == "--command=SELECT 1"


@pytest.mark.parametrize(("output", "expected"), [("postgres (PostgreSQL) 17.12", 17), ("postgres: what?", None)])
def test_an_installed_program_says_its_major_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: str, expected: int | None
) -> None:
    on_path(tmp_path, monkeypatch, {"postgres": f"echo '{output}'"})
    if expected:
        assert postgres.major_version("postgres") == expected
    else:
        with pytest.raises(HostError, match=r"postgres --version says 'postgres: what\?'"):
            postgres.major_version("postgres")


def test_metrics_go_into_the_environment_s_own_namespace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = on_path(tmp_path, monkeypatch, {"aws": ""})
    metrics.put("prod", "eu-west-1", [Metric("BackupAge", 12.5, "Seconds")])
    (given,) = arguments(here, "aws")
    assert given[:6] == ["cloudwatch", "put-metric-data", "--region", "eu-west-1", "--namespace", "zmanim/prod"]
    data = json.loads(given[given.index("--metric-data") + 1])
    assert data == [{"MetricName": "BackupAge", "Value": 12.5, "Unit": "Seconds"}]


def test_cloudwatch_that_is_away_is_told_and_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    on_path(tmp_path, monkeypatch, {"aws": "echo 'could not connect' >&2; exit 255"})
    metrics.put("prod", "eu-west-1", [Metric("BackupAge", 1, "Seconds"), Metric("BackupSize", 2, "Bytes")])
    output = capsys.readouterr().err
    assert "the metrics BackupAge, BackupSize could not be sent" in output
    assert "could not connect" in output
