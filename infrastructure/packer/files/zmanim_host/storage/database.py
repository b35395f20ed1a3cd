"""What only PostgreSQL's superuser can make, and put right: roles, the API's database, extensions, and who may connect.

What a database's owner sets for sessions, our own don't hear (sessions.py). What no session can undo is put right here,
at boot and before each backup, and told: the API's role could keep the backup out for good.
"""

from __future__ import annotations

import json
from pathlib import Path

from zmanim_host import extensions
from zmanim_host.host import WARNING, HostError, log
from zmanim_host.postgres import HOME, SUPERUSER, Server

SQL = Path("/opt/zmanim/database.sql")
LIVE = Server(role=SUPERUSER)
# Of databases that are no superuser's own; what a DROP DATABASE has cut short (-2) can't be altered.
_WRONG = """
SELECT json_build_array(d.datname, wrong, statement)
FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba JOIN pg_roles b ON b.rolname = 'zmanim_backup', LATERAL (VALUES
  ('is called a template', d.datistemplate, format('ALTER DATABASE %I IS_TEMPLATE false;', d.datname)),
  ('lets nobody connect', NOT d.datallowconn, format('ALTER DATABASE %I ALLOW_CONNECTIONS true;', d.datname)),
  ('limits its connections', d.datconnlimit >= 0, format('ALTER DATABASE %I CONNECTION LIMIT -1;', d.datname)),
  ('keeps the backup out', NOT has_database_privilege(b.oid, d.oid, 'CONNECT'),
    format('GRANT CONNECT ON DATABASE %I TO %I;', d.datname, b.rolname)),
  ('keeps its owner out', NOT has_database_privilege(o.oid, d.oid, 'CONNECT'),
    format('GRANT CONNECT ON DATABASE %I TO %I;', d.datname, o.rolname)),
  ('keeps its owner from temporary tables', NOT has_database_privilege(o.oid, d.oid, 'TEMPORARY'),
    format('GRANT TEMPORARY ON DATABASE %I TO %I;', d.datname, o.rolname))
) AS each (wrong, is_wrong, statement)
WHERE is_wrong AND NOT o.rolsuper AND d.datconnlimit <> -2 ORDER BY d.datname, wrong;
"""


def put_right(server: Server) -> list[str]:
    """Undo what keeps the backup, or the owner itself, out of a database; return what was wrong. Raises HostError."""
    done = []
    for line in server.query(HOME, _WRONG):
        database, wrong, statement = json.loads(line)
        server.query(HOME, statement)
        done.append(f"the database {database} {wrong}")
    if done:
        log(f"put right, as nothing could be backed up otherwise: {'; '.join(done)}. Who set that?", WARNING)
    return done


def command() -> None:
    """Make zmanim's roles, database and extensions, where they are missing; let extensions follow the image."""
    put_right(LIVE)  # first: even a superuser can't connect where nobody may
    LIVE.run_file(SQL, timeout=150)
    try:
        extensions.follow(LIVE)
    except (HostError, OSError) as error:
        # What is there works on: no reason for the API to stay down. zmanim-ready names what lags.
        log(f"extensions don't follow this image: {error}", WARNING)


def access_command() -> None:
    """See that the backup can connect to every database."""
    put_right(LIVE)
