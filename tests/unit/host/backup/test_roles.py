"""Roles, memberships and settings are written anew; whatever would be a superuser's is refused by name."""

from __future__ import annotations

import pytest

from zmanim_host.backup.roles import parse_globals
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
ALTER ROLE "odd name;" WITH NOSUPERUSER NOINHERIT NOLOGIN NOREPLICATION NOBYPASSRLS VALID UNTIL '2030-01-01 00:00+00';
COMMENT ON ROLE zmanim IS 'it''s ours';
ALTER ROLE zmanim SET search_path TO 'a', 'b;c';
ALTER ROLE postgres SET session_preload_libraries TO '/tmp/evil';
GRANT pg_read_all_data TO zmanim_backup WITH INHERIT TRUE GRANTED BY postgres;
GRANT "odd name;" TO zmanim WITH ADMIN OPTION, INHERIT FALSE GRANTED BY postgres;
\\unrestrict x1
"""


def test_roles_are_made_with_fixed_attributes_and_everything_quoted() -> None:
    roles = parse_globals(GOOD, NAMES)
    fixed = "NOSUPERUSER NOCREATEROLE NOREPLICATION"
    assert roles.create == [
        f'CREATE ROLE "zmanim" INHERIT NOCREATEDB LOGIN CONNECTION LIMIT 5 {fixed} NOBYPASSRLS;',
        f'CREATE ROLE "zmanim_backup" INHERIT NOCREATEDB LOGIN {fixed} BYPASSRLS;',
        f"CREATE ROLE \"odd name;\" NOINHERIT NOLOGIN VALID UNTIL '2030-01-01 00:00+00' {fixed} NOBYPASSRLS;",
        "COMMENT ON ROLE \"zmanim\" IS 'it''s ours';",
    ]
    assert roles.memberships == [
        'GRANT "pg_read_all_data" TO "zmanim_backup" WITH INHERIT TRUE;',
        'GRANT "odd name;" TO "zmanim" WITH ADMIN OPTION , INHERIT FALSE;',
    ]
    assert roles.settings == [("zmanim", "ALTER ROLE \"zmanim\" set search_path to 'a' , 'b;c'")]
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
