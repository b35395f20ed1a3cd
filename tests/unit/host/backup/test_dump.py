"""What is loaded as its owner, what is made by our own statements, and what is left out of a dump, by its contents."""

from __future__ import annotations

import re
from contextlib import suppress

import pytest

from tests.support import ROOT
from tests.support.backup_parts import FakeServer
from zmanim_host.backup import dump, roles, sql_text, superusers
from zmanim_host.backup.dump import KnownRoles, Plan
from zmanim_host.backup.sql_text import statements
from zmanim_host.host import HostError

LISTING = """;
; Archive created at 2026-11-29 07:57:36 UTC
6; 3079 17884 EXTENSION - pg_cron
7; 3079 17885 EXTENSION - citext
4715; 0 0 COMMENT - EXTENSION pg_cron
4716; 0 0 ACL - SCHEMA cron postgres
4790; 0 0 DATABASE - zmanim zmanim
4791; 0 0 DATABASE PROPERTIES - zmanim zmanim
4792; 0 0 COMMENT - DATABASE zmanim zmanim
238; 1259 17953 TABLE public cities zmanim
4512; 0 17887 TABLE DATA cron job postgres
4514; 0 17906 TABLE DATA cron job_run_details postgres
4722; 0 0 SEQUENCE SET cron jobid_seq postgres
4511; 0 16710 TABLE DATA public spatial_ref_sys postgres
4800; 3466 17999 EVENT TRIGGER - forged postgres
4801; 2616 17999 OPERATOR CLASS public ops postgres
4802; 826 17999 DEFAULT ACL public DEFAULT PRIVILEGES FOR TABLES zmanim
"""
SCHEMA = """
SET statement_timeout = 0;
SELECT pg_catalog.set_config('search_path', '', false);
CREATE DATABASE zmanim WITH TEMPLATE = template0 ENCODING = 'UTF8' LOCALE_PROVIDER = builtin LOCALE = 'C.UTF-8';
ALTER DATABASE zmanim OWNER TO zmanim;
\\connect zmanim
COMMENT ON DATABASE zmanim IS 'ours';
ALTER DATABASE zmanim SET work_mem TO '5MB';
ALTER ROLE clerk IN DATABASE zmanim SET role TO 'zmanim';
CREATE EXTENSION IF NOT EXISTS postgis WITH SCHEMA public;
COMMENT ON EXTENSION postgis IS 'of some version';
CREATE EXTENSION IF NOT EXISTS pg_cron WITH SCHEMA pg_catalog;
CREATE TABLE public.cities (n integer);
ALTER TABLE public.cities OWNER TO zmanim;
CREATE VIEW office."to" AS SELECT 1;
ALTER VIEW office."to" OWNER TO clerk;
REFRESH MATERIALIZED VIEW office.seen;
ALTER TABLE public.theirs OWNER TO postgres;
GRANT USAGE ON SCHEMA cron TO zmanim;
GRANT SELECT("from") ON TABLE office."to" TO zmanim WITH GRANT OPTION;
SET SESSION AUTHORIZATION zmanim;
GRANT SELECT ON TABLE office."to" TO PUBLIC;
RESET SESSION AUTHORIZATION;
GRANT SELECT ON TABLE public.theirs TO zmanim;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
ALTER DEFAULT PRIVILEGES FOR ROLE clerk IN SCHEMA office GRANT SELECT ON TABLES TO zmanim;
"""
ROLES = KnownRoles(("postgres", "zmanim", "clerk"))


def planned(schema: str = "") -> Plan:
    return dump.plan(statements(SCHEMA + schema), "zmanim", ROLES)


def test_each_entry_is_loaded_made_or_left_out() -> None:
    found = dump.contents(LISTING)
    numbers = [int(line.split(";")[0]) for line in found.loaded]
    assert numbers == [7, 238, 4511]
    assert [line.split(" ", 3)[3] for line in found.jobs] == ["TABLE DATA cron job postgres"]
    assert found.left_out == ("EVENT TRIGGER - forged postgres", "OPERATOR CLASS public ops postgres")
    assert len(found.described) == 13


# As PostgreSQL 17's own pg_restore lists them.
SPACES = """
7; 2615 16388 SCHEMA - cron job zmanim
222; 1259 16393 TABLE cron job x zmanim
3447; 0 16393 TABLE DATA cron job x zmanim
3467; 0 0 SEQUENCE SET cron job s zmanim
3468; 0 0 SEQUENCE SET cron jobid_seq s zmanim
9; 1259 16393 TABLE DATA cron job postgres
1662; 2617 16399 OPERATOR CLASS +* zmanim
3450; 0 0 COMMENT public TABLE OPERATOR CLASS zmanim
3446; 0 16390 TABLE DATA cron job postgres
"""


@pytest.mark.incident('a sequence in a schema called "cron x" was left out of a restore in silence')
def test_names_with_spaces_are_not_taken_for_another_kind() -> None:
    found = dump.contents(SPACES)
    assert [line.split(";")[0] for line in found.loaded] == ["7", "222", "3447", "3467", "3468", "9", "1662", "3450"]
    assert found.left_out == ()
    assert len(found.jobs) == 1


COMMENTED = """
862; 2612 16411 PROCEDURAL LANGUAGE - plx postgres
3456; 0 0 COMMENT - LANGUAGE plx postgres
3295; 3576 16412 TRANSFORM - TRANSFORM FOR integer LANGUAGE plx\x20
3457; 0 0 COMMENT - TRANSFORM FOR integer LANGUAGE plx\x20
1670; 2601 16408 ACCESS METHOD - am\x20
3458; 0 0 COMMENT - ACCESS METHOD am\x20
1996; 2753 16402 OPERATOR FAMILY my schema fam postgres
3459; 0 0 COMMENT my schema OPERATOR FAMILY fam USING btree postgres
1848; 2616 16401 OPERATOR CLASS public o c postgres
3460; 0 0 COMMENT public OPERATOR CLASS "o c" USING btree postgres
1998; 3601 16407 TEXT SEARCH PARSER public tp\x20
3461; 0 0 COMMENT public TEXT SEARCH PARSER tp\x20
2004; 3764 16406 TEXT SEARCH TEMPLATE public tt\x20
3462; 0 0 COMMENT public TEXT SEARCH TEMPLATE tt\x20
2063; 2328 16403 FOREIGN DATA WRAPPER - w postgres
3463; 0 0 COMMENT - FOREIGN DATA WRAPPER w postgres
2064; 1417 16404 SERVER - s postgres
3465; 0 0 COMMENT - SERVER s postgres
3466; 0 0 USER MAPPING - USER MAPPING zmanim SERVER s postgres
3445; 6237 16416 PUBLICATION TABLES IN SCHEMA cron job p2 cron job postgres
3296; 3466 16410 EVENT TRIGGER - e postgres
3470; 0 0 COMMENT - EVENT TRIGGER e postgres
"""


@pytest.mark.incident("a comment on what is left out ended the restore of a complete run")
def test_what_is_said_of_something_left_out_is_left_out_with_it() -> None:
    found = dump.contents(COMMENTED)
    assert (found.loaded, found.described) == ((), ())
    assert len(found.left_out) == 22


@pytest.mark.incident("a publication of all tables ended the restore of a complete run")
def test_a_publication_of_all_tables_is_left_out_with_all_that_is_said_of_it() -> None:
    listing = """
3442; 6104 16413 PUBLICATION - p 1 postgres
3469; 0 0 COMMENT - PUBLICATION "p 1" postgres
3443; 6104 16414 PUBLICATION - p2 zmanim
3448; 6104 16414 PUBLICATION - p 1 x zmanim
3444; 6106 16415 PUBLICATION TABLE cron p2 job zmanim
"""
    said = """
CREATE PUBLICATION p2 WITH (publish = 'insert');
ALTER PUBLICATION p2 OWNER TO zmanim;
CREATE PUBLICATION "p 1 x" WITH (publish = 'insert');
"""
    everything = """
CREATE PUBLICATION "p 1" FOR ALL TABLES WITH (publish = 'insert');
ALTER PUBLICATION "p 1" OWNER TO postgres;
COMMENT ON PUBLICATION "p 1" IS 'x';
"""
    found, schema = dump.without_publications(dump.contents(listing), statements(said + everything))
    assert [line.split(";")[0] for line in found.loaded] == ["3443", "3448", "3444"]
    assert found.left_out == ("PUBLICATION - p 1",)
    assert schema == statements(said)


@pytest.mark.incident('a database called "my db" was a complete run every night, and no restore took it')
def test_a_backup_tells_of_databases_and_roles_that_no_restore_makes() -> None:
    server = FakeServer()
    assert superusers.found(server, "my db") == ("all of it, as it has a name that no restore makes",)
    assert superusers.found(server, "zmanim") == ()
    # What it holds is told when it is backed up, and not only when the run is refused.
    assert "all of it, as it is PostgreSQL's own" in superusers.found(FakeServer(), "postgres")[0]
    assert ["rolsuper OR rolcreaterole" in sql for sql in server.queries] == [False, True]
    assert roles.GIVER in server.queries[1]


def test_the_superuser_s_extensions_are_those_of_the_image() -> None:
    script = (ROOT / "infrastructure/packer/files/database.sql").read_text()
    assert set(dump.EXTENSIONS) == set(re.findall(r"CREATE EXTENSION IF NOT EXISTS (\w+)", script))


def test_what_the_owner_can_not_load_is_planned_with_everything_quoted() -> None:
    plan = planned()
    assert plan.owner == "zmanim"
    options = "encoding = 'UTF8' locale_provider = builtin locale = 'C.UTF-8'"
    assert plan.create == f'CREATE DATABASE "zmanim" WITH TEMPLATE = template0 {options}'
    assert plan.extensions == [("postgis", "public"), ("pg_cron", "pg_catalog")]
    assert [(order.role, order.sql) for order in plan.owners] == [
        ("clerk", 'alter view office . "to" owner to "clerk"'),
    ]
    assert [order.sql for order in plan.superusers] == ['alter table public . theirs owner to "postgres"']
    assert [(order.role, order.sql) for order in plan.grants] == [
        ("postgres", "grant usage on schema cron to zmanim"),
        ("clerk", 'grant select ( "from" ) on table office . "to" to zmanim with grant option'),
        ("zmanim", 'grant select on table office . "to" to public'),
        ("postgres", "grant select on table public . theirs to zmanim"),
        ("zmanim", "revoke all on schema public from public"),
        ("clerk", "alter default privileges for role clerk in schema office grant select on tables to zmanim"),
    ]
    assert [(order.role, order.sql) for order in plan.settings] == [
        ("zmanim", "comment on database zmanim is 'ours'"),
        ("zmanim", "alter database zmanim set work_mem to '5MB'"),
        ("clerk", "alter role clerk in database zmanim set role to 'zmanim'"),
    ]
    assert plan.left_out == []


def test_all_that_a_schema_says_is_expected_again_and_no_more() -> None:
    said = [dump.words_of(statement) for statement, _ in planned().expected]
    assert len(said) == 18
    assert not [words for words in said if words.startswith(("set", "select", "refresh", "comment on extension"))]
    assert [grantor for statement, grantor in planned().expected if grantor] == ["zmanim"]


@pytest.mark.incident("a forged dump's rights on the superuser's own tables came into production by --replace")
@pytest.mark.parametrize(
    "statement",
    [
        "GRANT UPDATE ON TABLE pg_catalog.pg_authid TO zmanim;",
        "GRANT ALL ON TABLE cron.job TO zmanim;",
        "GRANT ALL ON SCHEMA cron TO zmanim;",
        "GRANT ALL ON FUNCTION cron.schedule_in_database(text, text) TO zmanim;",
        "ALTER DEFAULT PRIVILEGES FOR ROLE postgres GRANT ALL ON TABLES TO zmanim;",
        "ALTER ROLE postgres IN DATABASE zmanim SET search_path TO 'public';",
        "ALTER DATABASE zmanim IS_TEMPLATE = true;",
    ],
)
def test_what_is_a_superuser_s_to_give_is_left_out_and_no_longer_expected(statement: str) -> None:
    plan, before = planned(statement), planned()
    assert len(plan.left_out) == 1
    assert (plan.grants, plan.settings, plan.expected) == (before.grants, before.settings, before.expected)


@pytest.mark.parametrize("what", ["FUNCTION public.f(a integer)", "VIEW public.v", "SCHEMA s", "TYPE public.t"])
def test_what_would_run_with_the_superuser_s_rights_stays_its_database_s_owner_s(what: str) -> None:
    plan = planned(f"ALTER {what} OWNER TO postgres;\nGRANT ALL ON {what.replace('VIEW', 'TABLE')} TO clerk;")
    assert len(plan.left_out) == 1
    assert plan.grants[-1].role == "zmanim"
    expected = [dump.words_of(statement) for statement, _ in plan.expected][-2]
    assert expected.endswith("owner to zmanim")


def test_a_table_that_stays_with_the_owner_is_expected_to_be_the_owner_s() -> None:
    plan = planned()
    plan.keep(plan.superusers[0])
    expected = [dump.words_of(statement) for statement, _ in plan.expected]
    assert "alter table public . theirs owner to zmanim" in expected
    assert "alter table public . theirs owner to postgres" not in expected
    assert "would run with the superuser's rights" in plan.left_out[0]


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        ("ALTER TABLE public.cities OWNER TO stranger;", "the role 'stranger'"),
        ("GRANT SELECT ON TABLE public.cities TO stranger;", "the role 'stranger'"),
        ("SET SESSION AUTHORIZATION stranger; GRANT SELECT ON TABLE public.cities TO zmanim;", "the role 'stranger'"),
        ("GRANT postgres TO zmanim;", "grants what no restore grants"),
        ("CREATE DATABASE other WITH TEMPLATE = template0;", "is of 'other'"),
        ("CREATE DATABASE zmanim WITH STRATEGY = file_copy;", "strategy = file_copy"),
        ("ALTER DATABASE zmanim OWNER TO postgres;", "gives it to two owners"),
    ],
)
def test_what_no_restore_makes_is_refused_by_name(statement: str, words: str) -> None:
    with pytest.raises(HostError, match=words):
        planned(statement)


@pytest.mark.incident("a statement that also changed a column's type ran its owner's function as the superuser")
@pytest.mark.parametrize(
    "statement",
    [
        "ALTER TABLE public.u ALTER COLUMN a TYPE text USING public.evil(a), OWNER TO clerk;",
        "ALTER TABLE public.u ADD COLUMN b integer DEFAULT public.evil(), OWNER TO zmanim;",
        "ALTER SYSTEM SET a = b, OWNER TO clerk;",
        "ALTER TABLE public.u OWNER TO 'clerk';",
        "GRANT SELECT ON TABLE public.cities TO zmanim, clerk;",
        "GRANT USAGE ON SCHEMA cron TO clerk, zmanim WITH GRANT OPTION;",
        "GRANT SELECT ON TABLE public.cities TO zmanim GRANTED BY postgres;",
        "ALTER DATABASE zmanim SET work_mem TO '5MB', work_mem TO '6MB';",
        "ALTER DATABASE other SET work_mem TO '5MB';",
        "ALTER DATABASE zmanim RESET ALL;",
        "ALTER ROLE clerk IN DATABASE other SET work_mem TO '5MB';",
        "ALTER ROLE clerk SET work_mem TO '5MB';",
        "ALTER ROLE clerk RENAME TO other;",
        "COMMENT ON DATABASE other IS 'x';",
    ],
)
def test_a_statement_of_another_shape_than_pg_dump_s_is_refused(statement: str) -> None:
    with pytest.raises(HostError, match=r"does more than give|grants what no restore|sets what no restore|the role"):
        planned(statement)


@pytest.mark.parametrize("grant", ["TO PUBLIC", "TO zmanim WITH GRANT OPTION"])
def test_no_more_of_pg_cron_is_granted_than_the_image_grants(grant: str) -> None:
    assert f"grant usage on schema cron {grant.lower()}" in planned(f"GRANT USAGE ON SCHEMA cron {grant};").left_out


def test_a_schema_called_cron_is_the_superuser_s_only_where_the_extension_is() -> None:
    own = SCHEMA.replace("CREATE EXTENSION IF NOT EXISTS pg_cron WITH SCHEMA pg_catalog;", "CREATE SCHEMA cron;")
    assert "grant usage on schema cron to zmanim" in dump.plan(statements(own), "zmanim", ROLES).left_out


def test_a_statement_that_ends_too_soon_is_no_error_but_a_refusal() -> None:
    for statement in statements(SCHEMA):
        for length in range(1, len(statement)):
            with suppress(HostError):
                dump.plan([*statements(SCHEMA), statement[:length]], "zmanim", ROLES)


def test_an_operator_is_given_to_its_owner_with_its_signs_together() -> None:
    order = planned("ALTER OPERATOR office.<%> (integer, integer) OWNER TO clerk;").owners[-1]
    assert order.sql == 'alter operator office . <%> ( integer , integer ) owner to "clerk"'


def test_a_database_of_the_superuser_s_is_refused() -> None:
    with pytest.raises(HostError, match="is postgres's, a superuser's"):
        dump.plan(
            statements(SCHEMA.replace("DATABASE zmanim OWNER TO zmanim", "DATABASE zmanim OWNER TO postgres")),
            "zmanim",
            ROLES,
        )


def test_a_dump_that_does_not_say_whose_it_is_is_refused() -> None:
    with pytest.raises(HostError, match="does not say whose it is"):
        dump.plan(statements("CREATE TABLE t (n int);"), "zmanim", ROLES)


@pytest.mark.incident("the owner of a schema that had taken away his own rights to it could not grant on what is in it")
def test_what_schemas_grant_comes_first_and_what_they_take_away_last() -> None:
    schema = """
    ALTER SCHEMA office OWNER TO clerk;
    REVOKE ALL ON SCHEMA office FROM clerk;
    GRANT USAGE ON SCHEMA office TO zmanim;
    """
    order = [one.sql for one in dump.in_order(planned(schema).grants)]
    revoked, granted = "revoke all on schema office from clerk", "grant usage on schema office to zmanim"
    assert order[:2] == ["grant usage on schema cron to zmanim", granted]
    assert order[-2:] == [revoked, granted]
    assert order.index(revoked) == len(order) - 2


@pytest.mark.incident("counting rows ran a function of the API's in a table's index, as the backup's role")
def test_rows_are_counted_in_the_dump_whatever_a_table_is_called_and_holds() -> None:
    script = b"""
SET statement_timeout = 0;
COPY public.cities (id, name) FROM stdin;
1\ta
2\tCOPY public.other (id) FROM stdin;
3\t\\\\.
\\.


COPY "Odd. "" (x) schema"."t
n" (id) FROM stdin;
1
\\.
COPY public.empty (id) FROM stdin;
\\.
COPY public.bare  FROM stdin;


\\.
SELECT pg_catalog.setval('public.s', 1, true);
"""
    assert sql_text.count_rows(script.splitlines(keepends=True)) == {
        "public.cities": 3,
        '"Odd. "" (x) schema"."t\nn"': 1,
        "public.empty": 0,
        "public.bare": 2,
    }
