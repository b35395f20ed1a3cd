"""What is in a database that only a superuser can have made: found while it is backed up, left out of what is loaded.

A restore makes none of it: nothing of a backup runs with a superuser's rights. So somebody has to know of it before it
is missed; docs/backups.md says how a person brings it back on purpose.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from zmanim_host.backup import roles
from zmanim_host.backup.record import CompletionRecord
from zmanim_host.postgres import APPLICATION, HOME, Server

# By the system catalogue, without what belongs to an extension (it is made with that) and what initdb made. A table of
# the superuser's is given back if it runs nothing (loading.py decides), so only what certainly is not stands here.
_OBJECTS = """
WITH own (class, object) AS (
  SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
  UNION ALL SELECT 'pg_proc'::regclass, p.oid FROM pg_proc p JOIN pg_language l ON l.oid = p.prolang
    WHERE p.proleakproof OR NOT l.lanpltrusted AND l.lanname <> 'sql' OR p.proowner = 10
  UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
  UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily
  UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template
  UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser
  UNION ALL SELECT 'pg_publication'::regclass, oid FROM pg_publication WHERE puballtables
  UNION ALL SELECT 'pg_publication_namespace'::regclass, oid FROM pg_publication_namespace
  UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
  UNION ALL SELECT 'pg_subscription'::regclass, oid FROM pg_subscription
    WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database())
  UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language WHERE lanispl AND lanname <> 'plpgsql'
  UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am
  UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
  UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast WHERE castmethod = 'b'
  UNION ALL SELECT 'pg_transform'::regclass, oid FROM pg_transform
  UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type WHERE typtype = 'b' AND typcategory <> 'A'
  UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relowner = 10 AND relkind IN ('v', 'm', 'f', 'p')
  UNION ALL SELECT 'pg_namespace'::regclass, oid FROM pg_namespace WHERE nspowner = 10
    AND nspname !~ '^pg_(toast_)?temp_'
)
SELECT to_json(pg_describe_object(class, object, 0)) FROM own
WHERE object >= 16384 AND NOT EXISTS (
  SELECT FROM pg_depend d WHERE d.classid = class AND d.objid = object AND d.deptype = 'e')
ORDER BY pg_describe_object(class, object, 0);
SELECT 'SELECT to_json(''the job '' || coalesce(jobname, command) || '' of '' || username) FROM cron.job j'
  ' JOIN pg_roles r ON r.rolname = j.username WHERE r.rolsuper OR j.database <> current_database() ORDER BY jobid'
WHERE to_regclass('cron.job') IS NOT NULL \\gexec
"""


# Roles that no restore makes (roles.py decides); of the whole cluster, so asked in one database.
_ROLES = """
SELECT to_json('the role ' || rolname || ', which is a restore''s own or has rights that none gives') FROM pg_roles
WHERE oid >= 16384 AND (rolsuper OR rolcreaterole OR rolreplication OR rolname = '{giver}'
  OR rolbypassrls AND rolname <> '{backup}') ORDER BY rolname;
SELECT to_json('the membership of ' || m.rolname || ' in ' || g.rolname)
FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN pg_roles m ON m.oid = a.member
WHERE m.oid >= 16384 AND (g.oid < 16384 OR g.rolname = '{backup}' OR m.rolname IN ('{application}', '{backup}'))
  AND NOT (m.rolname = '{backup}' AND g.rolname = 'pg_read_all_data' AND NOT a.admin_option)
ORDER BY m.rolname, g.rolname;
"""
# What a database may be called: anything else could be taken for a connection string, which names a role as well.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,62}", re.ASCII)
# The kinds of a dump's entries that only a superuser can load, with the catalogue that the list gives (0: none). By the
# text alone an operator in a schema called CLASS would be an operator class.
_KINDS = {
    "EVENT TRIGGER": 3466,
    "OPERATOR CLASS": 2616,
    "OPERATOR FAMILY": 2753,
    "TEXT SEARCH TEMPLATE": 3764,
    "TEXT SEARCH PARSER": 3601,
    "PROCEDURAL LANGUAGE": 2612,
    "ACCESS METHOD": 2601,
    "FOREIGN DATA WRAPPER": 2328,
    # No foreign data wrapper is ever there.
    "SERVER": 1417,
    "USER MAPPING": 0,
    "SUBSCRIPTION": 6100,
    "SECURITY LABEL": 0,
    "TRANSFORM": 3576,
    "PUBLICATION TABLES IN SCHEMA": 6237,
}
# Those of them that are in no schema, as a comment's entry calls them.
_IN_NO_SCHEMA = (
    *("EVENT TRIGGER", "LANGUAGE", "ACCESS METHOD", "FOREIGN DATA WRAPPER", "SERVER", "SUBSCRIPTION", "TRANSFORM"),
)


def left_out(entries: Sequence[tuple[int, str]]) -> set[str]:
    """Return which of a dump's entries (catalogue, text) only a superuser could load; comments on them are, too."""
    found, about = set(), {f"COMMENT - {kind} " for kind in _IN_NO_SCHEMA}
    for catalogue, text in entries:
        for kind, known in _KINDS.items():
            if catalogue == known and text.startswith(f"{kind} "):
                found.add(text)
                # Schema, name and owner; where the schema's name ends nobody says.
                words = text[len(kind) + 1 :].split(" ")
                about |= {f"COMMENT {' '.join(words[:end])} {kind} " for end in range(1, len(words))}
    return found | {text for catalogue, text in entries if not catalogue and text.startswith(tuple(about))}


def found(server: Server, database: str) -> tuple[str, ...]:
    """Return what there is that no restore makes, in PostgreSQL's words. Raises HostError."""
    odd = () if NAME.fullmatch(database) else ("all of it, as it has a name that no restore makes",)
    if database == HOME:
        odd = ("all of it, as it is PostgreSQL's own database, which is a part of a run only while it holds something",)
    names = {"giver": roles.GIVER, "backup": roles.BACKUP, "application": APPLICATION}
    script = _OBJECTS + (_ROLES.format(**names) if database == APPLICATION else "")
    return (*odd, *(str(json.loads(line)) for line in server.query(database, script)))


def of_record(record: CompletionRecord) -> list[str]:
    """Return what a run's databases hold of it, with the database's name."""
    return [f"{part.name}: {each}" for part in record.databases for each in part.superusers]
