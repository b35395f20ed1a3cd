"""Extensions whose catalogue is of another image: they follow the image, but not before going back is over.

A new image brings new libraries; what an extension's SQL made in the database stays of the old image until somebody
says ALTER EXTENSION … UPDATE. Old SQL works on new libraries; new SQL on the old image's does not. So an extension
follows at the first start of zmanim-database that is PROMISED_DAYS after its version was first offered to this cluster.
The date is kept with the cluster: another image with the same version goes on counting, an older one begins anew.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zmanim_host.host import NOTICE, WARNING, HostError, log, read_plain, write_whole
from zmanim_host.postgres import APPLICATION, Server

# How long the image before can be gone back to (docs/on-aws.md).
PROMISED_DAYS = 14
CLUSTER = Path("/data/postgres")
# A file of PostgreSQL's user in its own directory: a restored cluster is made anew by its image, and has none.
NAME = "zmanim-extensions.json"
LONGEST = 1 << 16
# PostGIS takes three seconds.
UPDATE_SECONDS = 60
_DAY = 86400.0
# Without a way from one to the other, the database is of a newer image than this one (or of another extension).
DIFFERENT = """SELECT json_build_array(e.extname, e.extversion, a.default_version,
  EXISTS (SELECT FROM pg_extension_update_paths(e.extname) p
    WHERE p.source = e.extversion AND p.target = a.default_version AND p.path IS NOT NULL))
FROM pg_extension e JOIN pg_available_extensions a ON a.name = e.extname
WHERE a.default_version <> e.extversion ORDER BY e.extname;
"""
# An extension's script runs as the superuser and looks for names in the extension's schema, where the API's role may
# make what it likes: a function that fits better than PostgreSQL's own would be run. So nothing of a lesser role there
# may have a name that is a word of the script; and while it runs, nobody else makes anything.
_UPDATE = """BEGIN;
LOCK TABLE pg_proc, pg_operator, pg_class IN SHARE ROW EXCLUSIVE MODE;
SELECT pg_terminate_backend(s.pid, 10000) FROM pg_stat_activity s JOIN pg_roles r ON r.oid = s.usesysid
WHERE s.datname = current_database() AND NOT r.rolsuper;
CREATE TEMPORARY TABLE words ON COMMIT DROP AS
SELECT DISTINCT lower(w[1]) AS word
FROM pg_extension_update_paths(:'name') p, string_to_table(p.path, '--') WITH ORDINALITY f (step, n),
  string_to_table(p.path, '--') WITH ORDINALITY t (step, n),
  pg_config c, pg_read_file(format('%s/extension/%s--%s--%s.sql', c.setting, :'name', f.step, t.step)) script,
  regexp_matches(script, '[A-Za-z_][A-Za-z0-9_]*', 'g') w
WHERE p.source = :'installed' AND p.target = :'offered' AND t.n = f.n + 1 AND c.name = 'SHAREDIR';
SELECT set_config('zmanim.shadows', coalesce(string_agg(DISTINCT o.name, ', '), ''), true)
FROM pg_extension e, pg_roles r, LATERAL (
  SELECT proname::text, oid, 'pg_proc'::regclass FROM pg_proc WHERE pronamespace = e.extnamespace AND proowner = r.oid
  UNION ALL
  SELECT relname, oid, 'pg_class'::regclass FROM pg_class WHERE relnamespace = e.extnamespace AND relowner = r.oid
  UNION ALL
  SELECT oprname, oid, 'pg_operator'::regclass FROM pg_operator WHERE oprnamespace = e.extnamespace AND oprowner = r.oid
) o (name, oid, class)
WHERE e.extname = :'name' AND NOT r.rolsuper
  AND (o.class = 'pg_operator'::regclass OR lower(o.name) IN (SELECT word FROM pg_temp.words))
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = o.class AND d.objid = o.oid AND d.deptype = 'e');
DO $$
BEGIN
  IF current_setting('zmanim.shadows') <> '' THEN
    RAISE EXCEPTION 'its script might run what the API''s role has made: %', current_setting('zmanim.shadows');
  END IF;
END
$$;
ALTER EXTENSION :"name" UPDATE TO :'offered';
COMMIT;
"""


@dataclass(frozen=True)
class Difference:
    """An extension whose catalogue is not this image's; `follows`: whether there is a way to that."""

    name: str
    installed: str
    offered: str
    follows: bool


@dataclass(frozen=True)
class Wait:
    """The version that an extension is to follow to, since when it is offered (seconds since 1970), and what failed."""

    offered: str
    since: float
    problem: str = ""


def differences(server: Server) -> list[Difference]:
    """Return which extensions of the API's database are not of this image. Raises HostError."""
    return [Difference(*json.loads(line)) for line in server.query(APPLICATION, DIFFERENT)]


def read(cluster: Path = CLUSTER) -> dict[str, Wait]:
    """Return what waits, by the extension's name; nothing where nothing was written that can be understood."""
    try:
        content = read_plain(cluster, NAME, LONGEST) or b"{}"
        return {name: Wait(**each) for name, each in json.loads(content).items()}
    except (ValueError, TypeError, AttributeError):
        return {}


def count(found: Iterable[Difference], waits: Mapping[str, Wait], now: float) -> dict[str, Wait]:
    """Return what waits now: each since its version was first offered, or since now for a new one."""
    result = {}
    for each in found:
        if each.follows:
            known = waits.get(each.name)
            # A date to come is a clock's that was wrong.
            goes_on = known is not None and known.offered == each.offered and known.since <= now
            result[each.name] = known if known and goes_on else Wait(each.offered, now)
    return result


def is_due(wait: Wait, now: float) -> bool:
    """Return whether going back is over, and the extension follows."""
    return now - wait.since >= PROMISED_DAYS * _DAY


def follow(server: Server, cluster: Path = CLUSTER, now: float | None = None) -> None:
    """Update each extension that is due, and write down what waits; one that can't be updated is told, and no error.

    Raises HostError when the server can't be asked, OSError when nothing can be written.
    """
    now = time.time() if now is None else now
    found = differences(server)
    before = read(cluster)
    waits = count(found, before, now)
    for each in (each for each in found if each.name in waits):
        wait = waits[each.name]
        if not is_due(wait, now):
            log(f"the extension {each.name} stays {each.installed} until {_day(wait)}, then it becomes {each.offered}")
            continue
        variables = {"name": each.name, "installed": each.installed, "offered": each.offered}
        try:
            server.psql(
                *(f"--set={name}={value}" for name, value in variables.items()), input=_UPDATE, timeout=UPDATE_SECONDS
            )
        except HostError as error:
            problem = " ".join(str(error).split())
            log(f"the extension {each.name} stays {each.installed}: {problem}", WARNING)
            waits[each.name] = Wait(wait.offered, wait.since, problem[-300:])
        else:
            log(f"the extension {each.name} is {each.offered} now, and was {each.installed}", NOTICE)
            del waits[each.name]
    if waits != before:
        write_whole(cluster / NAME, json.dumps({name: vars(wait) for name, wait in waits.items()}) + "\n", mode=0o600)


def _day(wait: Wait) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(wait.since + PROMISED_DAYS * _DAY))


def check(server: Server, cluster: Path = CLUSTER, now: float | None = None) -> str:
    """Return which extensions wait to follow the image, and until when; HostError names what should have followed."""
    now = time.time() if now is None else now
    waits = read(cluster)
    waiting, lagging = [], []
    for each in differences(server):
        wait = waits.get(each.name)
        words = f"{each.name} is {each.installed}, this image has {each.offered}"
        if not each.follows:
            lagging.append(f"{words}: the database is of a newer image")
        elif wait is None or wait.problem or is_due(wait, now):
            reason = wait.problem if wait and wait.problem else "it follows when zmanim-database.service starts"
            lagging.append(f"{words}: {reason}")
        else:
            waiting.append(f"{words}, and follows after {_day(wait)}")
    if lagging:
        raise HostError("; ".join([*lagging, *waiting]))
    return "; ".join(waiting)
