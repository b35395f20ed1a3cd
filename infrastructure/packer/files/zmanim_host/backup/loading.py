"""Loading a run into an empty PostgreSQL: what its owner could make as its owner, the rest by statements of our own.

The superuser runs no statement, no list and no row of a run: no pg_restore, no script of pg_dumpall's, no job. What is
run for somebody else is run by a session of his own, whom PostgreSQL let in by that name: SET ROLE in the superuser's
session would be no boundary, as any function that is called there may say RESET ROLE.
"""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import IO

from zmanim_host.backup import dump, jobs, steps
from zmanim_host.backup.dump import Contents, KnownRoles, Order, Plan
from zmanim_host.backup.record import CompletionRecord, DatabasePart
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.roles import GIVER, check_powers, parse_globals, read_globals
from zmanim_host.backup.sandbox import BLOCK, MOST, Child, blocks, feed_all
from zmanim_host.backup.scratch import Scratch
from zmanim_host.backup.sql_text import Statement, identifier, literal, render, statements
from zmanim_host.backup.superusers import NAME
from zmanim_host.host import WARNING, HostError, log
from zmanim_host.postgres import HOME, SUPERUSER, Server, Survey

# As long as it takes, in seconds.
LONG = 6 * 3600.0
_TAKE_BACK = """
SELECT format('REVOKE INSERT ON %s FROM %I', c.oid::regclass, {owner}) FROM pg_class c
JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e'
WHERE c.relname = 'spatial_ref_sys' \\gexec
"""
# Whether the superuser may have a table or sequence: one that runs nothing of anybody's when its owner's rights are
# used, as VACUUM and ANALYZE use them. No index on an expression, no statistics of one, no rule, no trigger (a foreign
# key has some), no type of somebody's own. A column's own sequence goes with its table.
_INERT = """
SELECT CASE
  WHEN c.relowner <> d.datdba THEN CASE WHEN EXISTS (
    SELECT FROM pg_depend s WHERE s.classid = 'pg_class'::regclass AND s.objid = c.oid AND s.deptype IN ('a', 'i')
    AND s.refobjid::regclass::text = ANY (ARRAY[{given}]::text[])) THEN 'given' ELSE 'another' END
  WHEN c.relkind IN ('r', 'S') AND NOT c.relhasrules AND NOT c.relhastriggers AND NOT c.relispartition
  AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
  AND NOT EXISTS (SELECT FROM pg_statistic_ext s WHERE s.stxrelid = c.oid)
  AND NOT EXISTS (SELECT FROM pg_inherits h WHERE c.oid IN (h.inhrelid, h.inhparent))
  AND NOT EXISTS (
    SELECT FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid WHERE a.attrelid = c.oid AND NOT a.attisdropped
    AND t.typnamespace <> 'pg_catalog'::regnamespace AND NOT EXISTS (
      SELECT FROM pg_depend e WHERE e.classid = 'pg_type'::regclass AND e.objid = t.oid AND e.deptype = 'e'))
  THEN 'inert ' || c.oid::regclass ELSE 'harmful' END
FROM pg_class c, pg_database d WHERE c.oid = to_regclass({name}) AND d.datname = current_database();
"""


@dataclass(frozen=True)
class Loader:
    """A run, and the scratch cluster that it is loaded into, as its superuser.

    Another version of pg_dump says a schema in other words: without `schema_compared` differences are only named.
    """

    repo: Repository
    record: CompletionRecord
    place: Scratch
    server: Server
    schema_compared: bool

    def load(self) -> list[str]:
        """Load roles and databases; return in what they differ from the record. Raises HostError."""
        for part in self.record.databases:
            if not NAME.fullmatch(part.name) or part.name.startswith("template"):
                raise HostError(f"the run holds a database called {part.name!r}, and no restore makes that")
        known = self.record.globals.roles
        roles = parse_globals(read_globals(self.repo, self.record.globals), known)
        self.server.query(HOME, "\n".join(roles.create))
        differences: list[str] = []
        for part in self.record.databases:
            differences += self.load_database(part)
            log(f"restored the database {part.name}")
        self.server.query(HOME, "\n".join(roles.memberships))
        for role, settings in roles.settings.items():
            failed = self._try_as(role, settings)
            roles.left_out += [f"{settings[at]} ({reason})" for at, reason in failed.items()]
        self.server.query(HOME, "\n".join(roles.finish))
        _tell(roles.left_out)
        missing = check_powers(self.server, roles, known)
        return differences + ([f"roles are missing: {', '.join(missing)}"] if missing else [])

    def load_database(self, part: DatabasePart) -> list[str]:
        """Load one database; return in what it differs from the record."""
        differences: list[str] = []

        def consume(stream: IO[bytes]) -> None:
            differences.extend(self._consume(part, stream))

        self.repo.read_into(part.snapshot, steps.dump_name(part.name), consume)
        return differences

    def _consume(self, part: DatabasePart, stream: IO[bytes]) -> list[str]:
        head, listing = read_contents(self.place, stream)
        found = dump.contents(listing)
        if part.name == HOME:
            feed_all([], blocks(stream))
            check_empty(found, part)
            return []
        known = KnownRoles(self.record.globals.roles)
        found, schema = dump.without_publications(found, self._schema(head, found))
        plan = dump.plan(schema, part.name, known)
        owner = replace(self.server, role=plan.owner)
        self._create(part.name, plan)
        wanted = self._load_as_owner(part.name, owner, found, head, stream)
        survey = self._survey(part.name, owner)
        self._give(part.name, plan)
        self._give_back(part.name, plan)
        grants = dump.in_order(plan.grants)
        self._run_each(part.name, [order for order in grants if not dump.is_about(order.origin, "database")])
        if wanted:
            jobs.schedule(self.server, part.name, wanted, known.names)
        # Last, and from elsewhere: they may say who connects.
        self._run_each(HOME, [order for order in grants if dump.is_about(order.origin, "database")])
        differences = compare(part, survey, len(wanted))
        # The last thing: they are their owner's and may be about anything.
        for role in sorted({order.role for order in plan.settings}):
            orders = [order for order in plan.settings if order.role == role]
            for at, reason in self._try_as(role, [order.sql for order in orders]).items():
                plan.leave_out(orders[at], reason)
        _tell([f"{part.name}: {each}" for each in (*found.left_out, *plan.left_out)])
        return differences + self._compare_schema(part.name, plan)

    def _schema(self, head: bytes, found: Contents) -> list[Statement]:
        with self.place.list_file(found.described) as file:
            command = self.place.sandbox.command(
                "pg_restore", "--create", "--schema-only", "--file=-", f"--use-list={file}"
            )
            child = Child(command, "pg_restore")
            child.feed(head)
            return statements(child.finish())

    def _create(self, name: str, plan: Plan) -> None:
        owner = identifier(plan.owner)
        self.server.query(HOME, f"{plan.create} OWNER = {owner};", timeout=600)
        script = []
        for extension, schema in plan.extensions:
            if schema not in {"public", "pg_catalog"}:
                raise HostError(f"the extension {extension} of {name} is in the schema {schema!r}, and not in public")
            script.append(f"CREATE EXTENSION {identifier(extension)} WITH SCHEMA {identifier(schema)};")
            if extension == "postgis":
                # Its owner's own reference systems; taken back below.
                script.append(f"GRANT INSERT ON {identifier(schema)}.spatial_ref_sys TO {owner};")
        self.server.query(name, "\n".join(script), timeout=600)

    def _load_as_owner(
        self, name: str, owner: Server, found: Contents, head: bytes, stream: IO[bytes]
    ) -> list[jobs.Job]:
        sandbox = self.place.sandbox
        with self.place.list_file(found.loaded) as loaded, self.place.list_file(found.jobs) as wanted:
            options = ["--exit-on-error", "--no-owner", "--no-privileges", "--no-password", f"--use-list={loaded}"]
            children = [Child(sandbox.command("pg_restore", *options, *owner.connection(name)), f"loading {name}")]
            if found.jobs:
                command = sandbox.command("pg_restore", "--data-only", "--file=-", f"--use-list={wanted}")
                children.append(Child(command, "reading the jobs"))
            feed_all(children, (block for part in ([head], blocks(stream)) for block in part))
            children[0].finish(timeout=LONG)
            text = children[1].finish() if found.jobs else ""
        self.server.query(name, _TAKE_BACK.format(owner=literal(owner.role)))
        return jobs.parse(text)

    def _survey(self, name: str, owner: Server) -> Survey:
        """Count what was loaded, as whose all of it still is.

        Planning a query evaluates functions in a table's indexes and statistics, as whoever asks: never the superuser.
        """
        role = identifier(owner.role)
        self.server.query(HOME, f"ALTER ROLE {role} BYPASSRLS; GRANT pg_read_all_data TO {role};")
        survey = owner.survey(name)
        self.server.query(HOME, f"ALTER ROLE {role} NOBYPASSRLS; REVOKE pg_read_all_data FROM {role};")
        return survey

    # ---- What the owner's loading does not bring ----

    def _give(self, database: str, plan: Plan) -> None:
        """Give objects to those who owned them, with no more rights than the database's owner has."""
        if not plan.owners:
            return
        owner = identifier(plan.owner)
        others = [identifier(name) for name in sorted({order.role for order in plan.owners})]
        lent = [
            f"CREATE ROLE {GIVER} LOGIN INHERIT;",
            *(f"GRANT {name} TO {GIVER} WITH INHERIT TRUE, SET TRUE;" for name in (owner, *others)),
            # A new owner has to be one who may make such objects there.
            *(f"GRANT {owner} TO {name} WITH INHERIT TRUE;" for name in others),
        ]
        self.server.query(HOME, "\n".join(lent))
        self._run_as(database, GIVER, [order.sql for order in plan.owners])
        taken = [*(f"REVOKE {owner} FROM {name};" for name in others), f"DROP ROLE {GIVER};"]
        self.server.query(database, "\n".join(taken))

    def _give_back(self, database: str, plan: Plan) -> None:
        """Give the superuser the tables that were its own, as far as they can do no harm."""
        given: list[str] = []
        for order in plan.superusers:
            name = render(order.origin[2:-3])
            script = _INERT.format(name=literal(name), given=", ".join(literal(each) for each in given))
            answer = (self.server.query(database, script) or [""])[0]
            if answer.startswith("inert "):
                self.server.query(database, f"{order.sql};")
                given.append(answer[len("inert ") :])
            elif answer == "harmful":
                plan.keep(order)
            elif answer != "given":
                raise HostError(
                    f"{database}: {name} is not its owner's to give to {SUPERUSER}: this dump is a forged one"
                )

    def _run_each(self, database: str, orders: Sequence[Order]) -> None:
        for role, group in groupby(orders, key=lambda order: order.role):
            self._run_as(database, role, [order.sql for order in group])

    def _run_as(self, database: str, role: str, statements: Sequence[str]) -> None:
        """Run statements in a session of a role's own: there is nobody else to become in it."""
        script = "".join(f"{statement};\n" for statement in statements)
        replace(self.server, role=role).query(database, script, timeout=600)

    def _try_as(self, role: str, statements: Sequence[str]) -> dict[int, str]:
        """Run statements in one session of a role's own; return why those failed that did, by their places.

        One session, as it is deaf to what is set in it for the next ones; not in the database, which they may be about.
        """
        mark = secrets.token_hex(8)
        script = ["\\set ON_ERROR_STOP off"]
        for at, statement in enumerate(statements):
            script += [f"{statement};", "\\if :ERROR", f"\\echo {mark} {at} :LAST_ERROR_MESSAGE", "\\endif"]
        lines = replace(self.server, role=role).query(HOME, "\n".join(script), timeout=600)
        failed = [line.split(" ", 2) for line in lines if line.startswith(f"{mark} ")]
        return {int(at): reason for _, at, reason in failed}

    def _compare_schema(self, name: str, plan: Plan) -> list[str]:
        options = ["--schema-only", "--create", "--no-password", *self.server.connection(name)]
        child = Child(
            self.place.sandbox.command("pg_dump", *options), f"pg_dump of {name}", self.server.environment(name)
        )
        restored, expected = Counter(dump.comparable(statements(child.finish()))), Counter(plan.expected)
        differences = [
            f"the schema of {name} {what}: {dump.words_of(statement)}"
            for what, surplus in (("lacks", expected - restored), ("has", restored - expected))
            for statement, _ in list(surplus)[:3]
        ]
        if self.schema_compared:
            return differences
        for each in differences:
            log(f"{each} (the run is of another version of PostgreSQL: look at it)", WARNING)
        return []


def _tell(left_out: list[str]) -> None:
    for each in left_out:
        log(f"left out, as only a superuser could make it: {each}", WARNING)


def read_contents(place: Scratch, stream: IO[bytes]) -> tuple[bytes, str]:
    """Return the beginning of a dump, as far as was needed, and what pg_restore lists of it. Raises HostError."""
    child = Child(place.sandbox.command("pg_restore", "--create", "--list"), "pg_restore --list")
    parts = []
    for block in blocks(stream):
        parts.append(block)
        if not child.feed(block) or child.ended():
            break
        if len(parts) * BLOCK > MOST:
            raise HostError(f"the contents of the dump are longer than {MOST >> 20} MiB")
    return b"".join(parts), child.finish()


def check_empty(found: Contents, part: DatabasePart) -> None:
    """Raise HostError when PostgreSQL's own database holds anything: it is the superuser's, and never loaded."""
    held = [line.split(" ", 3)[-1] for line in found.loaded] + list(found.left_out)
    if held or part.rows or set(part.extensions) - {"plpgsql"}:
        raise HostError(
            f"the database {HOME} of this run holds {', '.join(held[:5]) or 'something'}: it is not restored, as"
            " nothing is loaded as a superuser. docs/backups.md says how to get it back by hand"
        )


def compare(part: DatabasePart, restored: Survey, scheduled: int) -> list[str]:
    """Return in what a restored database differs from the record; its jobs are `scheduled`, and no rows yet."""
    differences = []
    # Without the extension a table by that name is like any other.
    is_cron = jobs.EXTENSION in part.extensions
    counted = {**restored.rows, jobs.TABLE: scheduled} if is_cron and jobs.TABLE in part.rows else restored.rows
    for table in sorted((part.rows.keys() | counted.keys()) - ({jobs.DETAILS} if is_cron else set())):
        rows, expected = counted.get(table), part.rows.get(table)
        if rows != expected:
            differences.append(f"{part.name}: {table} has {rows} rows, not {expected}")
    # Their versions are the image's.
    extensions, expected_extensions = sorted(restored.extensions), sorted(part.extensions)
    if extensions != expected_extensions:
        differences.append(f"{part.name} has the extensions {extensions}, not {expected_extensions}")
    return differences
