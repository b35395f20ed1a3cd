"""What is in a database that only a superuser can have made, found while it is backed up.

A restore makes none of it: nothing of a backup runs with a superuser's rights. So somebody has to know of it before it
is missed; docs/backups.md says how a person brings it back on purpose.
"""

from __future__ import annotations

import json

from zmanim_host.backup.record import CompletionRecord
from zmanim_host.postgres import Server

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


def found(server: Server, database: str) -> tuple[str, ...]:
    """Return what there is, in PostgreSQL's words. Raises HostError."""
    return tuple(str(json.loads(line)) for line in server.query(database, _OBJECTS))


def of_record(record: CompletionRecord) -> list[str]:
    """Return what a run's databases hold of it, with the database's name."""
    return [f"{part.name}: {each}" for part in record.databases for each in part.superusers]
