"""Roles, memberships and settings are written anew; whatever would be a superuser's is refused by name."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass

import pytest

from tests.support.backup_parts import FakeServer
from zmanim_host.backup.roles import check_powers, parse_globals
from zmanim_host.host import HostError

NAMES = ("postgres", "zmanim", "zmanim_backup", "odd name;")
GOOD = """
\\restrict x1
SET client_encoding = 'UTF8';
CREATE ROLE postgres;
ALTER ROLE postgres WITH SUPERUSER INHERIT CREATEROLE CREATEDB LOGIN REPLICATION BYPASSRLS;
CREATE ROLE zmanim;
ALTER ROLE zmanim WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 5;
CREATE ROLE zmanim_backup;
ALTER ROLE zmanim_backup WITH NOSUPERUSER INHERIT NOCREATEROLE NOCREATEDB LOGIN NOREPLICATION BYPASSRLS;
CREATE ROLE "odd name;";
ALTER ROLE "odd name;" WITH NOSUPERUSER NOINHERIT NOLOGIN NOREPLICATION NOBYPASSRLS CONNECTION LIMIT 5
  VALID UNTIL '2030-01-01 00:00+00';
COMMENT ON ROLE zmanim IS 'it''s ours';
ALTER ROLE zmanim SET search_path TO 'a', 'b;c';
ALTER ROLE postgres SET session_preload_libraries TO '/tmp/evil';
GRANT pg_read_all_data TO zmanim_backup WITH INHERIT TRUE GRANTED BY postgres;
GRANT zmanim TO "odd name;" WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;
\\unrestrict x1
"""


def test_roles_are_made_with_fixed_attributes_and_everything_quoted() -> None:
    roles = parse_globals(GOOD, NAMES)
    fixed = "LOGIN NOCREATEDB NOBYPASSRLS NOSUPERUSER NOCREATEROLE NOREPLICATION"
    assert roles.create == [
        f'CREATE ROLE "zmanim" {fixed};',
        f'CREATE ROLE "zmanim_backup" {fixed};',
        f'CREATE ROLE "odd name;" {fixed};',
        "COMMENT ON ROLE \"zmanim\" IS 'it''s ours';",
    ]
    assert roles.finish == [
        'ALTER ROLE "zmanim" INHERIT NOCREATEDB LOGIN CONNECTION LIMIT -1;',
        'ALTER ROLE "zmanim_backup" INHERIT NOCREATEDB LOGIN CONNECTION LIMIT -1 BYPASSRLS;',
        "ALTER ROLE \"odd name;\" NOINHERIT NOLOGIN CONNECTION LIMIT 5 VALID UNTIL '2030-01-01 00:00+00';",
    ]
    assert roles.memberships == [
        'GRANT "pg_read_all_data" TO "zmanim_backup" WITH INHERIT TRUE;',
        'GRANT "zmanim" TO "odd name;" WITH ADMIN OPTION , INHERIT FALSE;',
    ]
    assert roles.settings == {"zmanim": ["ALTER ROLE \"zmanim\" set search_path to 'a' , 'b;c'"]}
    assert roles.powers == {
        ("role", "zmanim_backup", "bypassrls"),
        ("member", "zmanim_backup", "pg_read_all_data"),
        ("member", "odd name;", "zmanim"),
        ("admin", "odd name;", "zmanim"),
    }
    # The superuser's own sessions are nobody's to set.
    assert [line.split(" (")[0] for line in roles.left_out] == ["alter role postgres set session_preload_libraries to"]


@pytest.mark.incident("a forged script of roles made another superuser, whom --replace put into production")
@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER ROLE zmanim WITH SUPERUSER;", "'zmanim' is SUPERUSER"),
        ("ALTER ROLE zmanim WITH CREATEROLE;", "'zmanim' is CREATEROLE"),
        ("ALTER ROLE zmanim WITH REPLICATION;", "'zmanim' is REPLICATION"),
        ("ALTER ROLE zmanim WITH BYPASSRLS;", "'zmanim' is BYPASSRLS"),
        ("ALTER ROLE zmanim WITH PASSWORD 'x';", "can't be understood: 'password'"),
        ("CREATE ROLE evil;", "'evil', which the record does not have"),
        ("ALTER ROLE evil WITH LOGIN;", "'evil', which the record does not have"),
        ("ALTER ROLE ALL SET role TO 'postgres';", "'all', which the record does not have"),
        ("GRANT postgres TO zmanim;", "'zmanim' is a member of 'postgres'"),
        ("GRANT zmanim_backup TO zmanim;", "'zmanim' is a member of 'zmanim_backup'"),
        ("GRANT pg_execute_server_program TO zmanim;", "'zmanim' is a member of 'pg_execute_server_program'"),
        ("GRANT pg_write_server_files TO zmanim;", "is a member of"),
        ("GRANT pg_create_subscription TO zmanim;", "is a member of"),
        ("GRANT zmanim TO evil;", "'evil' is a member of"),
        ("GRANT SELECT ON pg_authid TO zmanim;", "no restore runs"),
        ("CREATE TABLESPACE t LOCATION '/tmp';", "no restore runs"),
        ("DO $$BEGIN END$$;", "no restore runs"),
        ("COPY t TO PROGRAM 'id';", "no restore runs"),
        ("ALTER ROLE zmanim SET search_path TO 'a', work_mem TO 'b';", "no restore runs"),
        ("ALTER ROLE zmanim RENAME TO x;", "no restore runs"),
        ("ALTER ROLE zmanim IN DATABASE zmanim SET search_path TO 'a';", "no restore runs"),
        ("ALTER ROLE zmanim WITH CONNECTION LIMIT x;", "can't be understood"),
        ("ALTER ROLE zmanim WITH VALID UNTIL;", "can't be understood"),
        ("ALTER SYSTEM SET archive_command TO 'id';", "no restore runs"),
    ],
)
def test_what_only_a_superuser_may_have_is_refused_by_name(statement: str, words: str) -> None:
    with pytest.raises(HostError, match=words):
        parse_globals(GOOD + statement, NAMES)


def test_a_role_that_the_script_lacks_is_made_all_the_same_and_one_of_postgresql_s_own_is_not() -> None:
    assert "NOSUPERUSER" in parse_globals("SET x = 1;", ["zmanim"]).create[0]
    with pytest.raises(HostError, match="PostgreSQL's own"):
        parse_globals("SET x = 1;", ["pg_evil"])


@pytest.mark.incident("a forged script of roles let the API end the backup's sessions and read every database")
@pytest.mark.parametrize(
    "grant",
    [
        "pg_signal_backend TO zmanim",
        "pg_read_all_data TO zmanim WITH ADMIN OPTION",
        'pg_monitor TO "odd name;"',
        "pg_maintain TO zmanim_backup",
        '"odd name;" TO zmanim',
        '"odd name;" TO zmanim_backup',
    ],
)
def test_a_membership_that_the_image_does_not_give_is_left_out_and_named(grant: str) -> None:
    roles, before = parse_globals(f"{GOOD} GRANT {grant};", NAMES), parse_globals(GOOD, NAMES)
    assert (roles.memberships, roles.powers) == (before.memberships, before.powers)
    assert len(roles.left_out) == len(before.left_out) + 1
    assert grant.split('"' if grant[0] == '"' else " ")[grant[0] == '"'] in roles.left_out[-1]


def test_the_backup_s_own_membership_is_given_as_the_image_gives_it() -> None:
    script = "CREATE ROLE zmanim_backup; GRANT pg_read_all_data TO zmanim_backup WITH ADMIN OPTION;"
    roles = parse_globals(script, ["zmanim_backup"])
    assert roles.memberships == ['GRANT "pg_read_all_data" TO "zmanim_backup" WITH INHERIT TRUE;']
    assert ("admin", "zmanim_backup", "pg_read_all_data") not in roles.powers


def test_a_role_called_like_the_restore_s_own_is_refused() -> None:
    with pytest.raises(HostError, match="'zmanim_restore', which is the restore's own"):
        parse_globals("SET x = 1;", ["zmanim", "zmanim_restore"])


def test_a_statement_that_ends_too_soon_is_no_error_but_a_refusal() -> None:
    for line in GOOD.split(";\n"):
        words = line.split()
        for length in range(1, len(words)):
            with suppress(HostError):
                parse_globals(f"{' '.join(words[:length])};", NAMES)


@dataclass(frozen=True)
class Cluster(FakeServer):
    """One that answers with the powers that its roles have."""

    rows: tuple[tuple[str, str, str], ...] = ()

    def query(self, database: str, sql: str, timeout: float = 60) -> list[str]:
        return [json.dumps(row) for row in self.rows]


@pytest.mark.incident("a restored cluster had another superuser, and came out as recorded")
def test_a_cluster_with_a_role_or_a_right_that_nobody_gave_is_refused() -> None:
    roles, known = parse_globals(GOOD, NAMES), tuple(NAMES)
    made = tuple(roles.powers)
    check_powers(Cluster(rows=made, known_roles=known), roles, NAMES)
    for row in (
        ("role", "eyes1", "superuser"),
        ("role", "zmanim", "createrole"),
        ("role", "zmanim", "bypassrls"),
        ("member", "zmanim", "pg_execute_server_program"),
        ("member", "zmanim", "postgres"),
        ("admin", "zmanim_backup", "pg_read_all_data"),
        ("set", "the superuser", "session_preload_libraries=evil"),
    ):
        with pytest.raises(HostError, match=f"what nobody gave to it: {' '.join(row)}"):
            check_powers(Cluster(rows=(*made, row), known_roles=known), roles, NAMES)
    with pytest.raises(HostError, match=r"the roles \['eyes1'\]"):
        check_powers(Cluster(rows=made, known_roles=(*known, "eyes1")), roles, NAMES)
