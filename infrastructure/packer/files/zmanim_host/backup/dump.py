"""A database's dump, before anything of it is loaded: what its table of contents lists, and what its schema says.

Both are read from the beginning of the stream that is loaded afterwards. What becomes of each entry:

- its owner loads it: nearly everything, and nothing that the owner could not make in production
- made by statements of our own (Plan): the database, the image's extensions, owners, grants, settings, jobs of pg_cron
- left out and named: what only a superuser can make
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace

from zmanim_host.backup import sql_text, superusers
from zmanim_host.backup.sql_text import NUMBER, SIGN, TEXT, WORD, Statement, Token, begins, identifier, render
from zmanim_host.host import HostError
from zmanim_host.postgres import SUPERUSER

# What /opt/zmanim/database.sql makes; any other extension is its owner's to make, as in production.
EXTENSIONS = ("postgis", "vector", "pg_trgm", "unaccent", "pg_cron")
# The list's fields stand side by side, and names may hold spaces; these are whole, with pg_cron's owner as last word.
JOBS = f"TABLE DATA cron job {SUPERUSER}"
# Rows that pg_cron writes by itself, and its counters: a job that is scheduled anew gets a new number.
_CRON = (
    JOBS,
    f"TABLE DATA cron job_run_details {SUPERUSER}",
    f"SEQUENCE SET cron jobid_seq {SUPERUSER}",
    f"SEQUENCE SET cron runid_seq {SUPERUSER}",
)
# What statements of our own make.
_MADE = (
    *(f"{what} {name} " for name in EXTENSIONS for what in ("EXTENSION -", "COMMENT - EXTENSION")),
    *("ACL ", "DEFAULT ACL ", "DATABASE ", "COMMENT - DATABASE "),
)
_EVERY = frozenset(Token(WORD, word) for word in ("for", "all", "tables"))
_ABOUT = (("create", "publication"), ("alter", "publication"), ("comment", "on", "publication"))
_LOCALE = frozenset(
    ("encoding", "locale_provider", "locale", "builtin_locale", "lc_collate", "lc_ctype", "icu_locale", "icu_rules")
)
# The number, the system catalogue that it is of (0: none, such as rows, comments), its own, and what it is.
_ENTRY = re.compile(r"\d+; (\d+) \d+ (.*)")
# The kinds of pg_dump's ALTER … OWNER TO that GRANT calls a table.
_TABLES = {("table",), ("view",), ("materialized", "view"), ("foreign", "table")}


@dataclass(frozen=True)
class Contents:
    """The entries of a dump: those that its owner loads, and those that say what else there is to make; the names of
    what is left out, and those with the jobs of pg_cron.
    """

    loaded: tuple[str, ...]
    described: tuple[str, ...]
    left_out: tuple[str, ...]
    jobs: tuple[str, ...]


def contents(listing: str) -> Contents:
    """Return what `pg_restore --list` says is in a dump."""
    loaded, described, left_out, jobs = [], [], [], []
    entries = [(line, match) for line in listing.splitlines() if (match := _ENTRY.fullmatch(line))]
    are_left_out = superusers.left_out([(int(match[1]), match[2]) for _, match in entries])
    for line, match in entries:
        # Its last word is the owner, and missing where there is none.
        catalogue, entry = int(match[1]), match[2].strip()
        if match[2] in are_left_out:
            left_out.append(entry)
            continue
        described.append(line)
        is_cron = not catalogue and entry in _CRON
        if is_cron and entry == JOBS:
            jobs.append(line)
        if not is_cron and not f"{entry} ".startswith(_MADE):
            loaded.append(line)
    return Contents(tuple(loaded), tuple(described), tuple(left_out), tuple(jobs))


def without_publications(found: Contents, schema: Sequence[Statement]) -> tuple[Contents, list[Statement]]:
    """Leave out what publishes all tables, which is a superuser's: the schema says which publication does, no list."""
    every = [each[2].value for each in schema if begins(each, "create", "publication") and set(each[3:6]) == _EVERY]
    texts = [
        f"{what} {name} "
        for each in every
        for what, name in (
            ("PUBLICATION -", each),
            ("COMMENT - PUBLICATION", each),
            ("COMMENT - PUBLICATION", identifier(each)),
        )
    ]
    # After the name comes its owner.
    gone = {
        line
        for line in found.loaded
        for text in texts
        if (match := _ENTRY.fullmatch(line)) and match[2].startswith(text) and " " not in match[2][len(text) :]
    }
    kept = [
        each for each in schema if not any(begins(each, *start) and each[len(start)].value in every for start in _ABOUT)
    ]
    loaded = tuple(line for line in found.loaded if line not in gone)
    return replace(found, loaded=loaded, left_out=(*found.left_out, *(f"PUBLICATION - {each}" for each in every))), kept


@dataclass(frozen=True)
class Order:
    """A statement of our own, the role to be while it runs, and the one of the schema that it stands for."""

    role: str
    sql: str
    origin: Statement


@dataclass
class Plan:
    """What statements of our own have to make of a database, as its schema says.

    `superusers` are tables and sequences of the superuser's, which get them back if they can do no harm. `expected` is
    the schema as the restored database has to have it; what `left_out` names is not in it.
    """

    owner: str = ""
    create: str = ""
    extensions: list[tuple[str, str]] = field(default_factory=list)
    owners: list[Order] = field(default_factory=list)
    superusers: list[Order] = field(default_factory=list)
    grants: list[Order] = field(default_factory=list)
    settings: list[Order] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    expected: list[tuple[Statement, str]] = field(default_factory=list)

    def leave_out(self, order: Order, reason: str) -> None:
        """Name what could not be made, and expect it no longer."""
        self.left_out.append(f"{words_of(order.origin)} ({reason})")
        self.expected.remove((order.origin, ""))

    def keep(self, order: Order) -> None:
        """Leave a superuser's table with the database's owner: that is expected then."""
        self.leave_out(order, "what others wrote would run with the superuser's rights")
        self.expected.append(((*order.origin[:-1], Token(WORD, self.owner)), ""))


def in_order(grants: Sequence[Order]) -> list[Order]:
    """Return grants so that each finds what it is about: who may not use a schema finds nothing in it.

    Who grants on may do so by a schema's own grant, and an owner may have taken away his own rights to a schema: so
    what schemas grant comes first, and all that is said of them, in its order, once more at the end.
    """
    about = [order for order in grants if is_about(order.origin, "schema")]
    others = [order for order in grants if not is_about(order.origin, "schema")]
    return [*(order for order in about if begins(order.origin, "grant")), *others, *about]


def is_about(statement: Statement, kind: str) -> bool:
    """Return whether a grant is about such an object."""
    on = _places(statement, "on")
    return bool(on) and begins(statement[on[0] + 1 :], kind)


def words_of(statement: Statement) -> str:
    """Return a statement for people to read, at most its first twenty words."""
    return " ".join(token.value for token in statement[:20])


@dataclass(frozen=True)
class KnownRoles:
    """The roles that a database may name; the one superuser among them."""

    names: Collection[str]
    superuser: str = SUPERUSER

    def check(self, name: str) -> str:
        """Return the name of a role that there is; HostError otherwise."""
        if name not in self.names:
            raise HostError(f"the schema names the role {name!r}, which the record does not have")
        return name


def plan(schema: Sequence[Statement], database: str, roles: KnownRoles) -> Plan:
    """Return what is to be made of a database by its schema, as pg_restore --create --schema-only writes it.

    Raises HostError for a database that no restore makes.
    """
    planner = _Planner(database, roles)
    for statement, grantor in comparable(schema):
        planner.take(statement, grantor)
    made = planner.made
    if not made.create or not made.owner:
        raise HostError(f"the dump of {database} does not say whose it is")
    if made.owner == roles.superuser:
        raise HostError(
            f"the database {database} is {made.owner}'s, a superuser's, and nothing is loaded as one: give it to"
            " another role in production, or restore it by hand (docs/backups.md)"
        )
    return made


_PREPARING = {Token(WORD, word) for word in ("set", "select", "refresh")}
_PUBLIC = Token(WORD, "public")
_USAGE = (Token(WORD, "grant"), Token(WORD, "usage"))
_GRANT_OPTION = tuple(Token(WORD, word) for word in ("with", "grant", "option"))
# One of a schema's statements, and the role that has granted it where that is not the owner.
Said = tuple[Statement, str]


def comparable(schema: Sequence[Statement]) -> Iterator[Said]:
    """Yield what a schema says of a database.

    Without what only prepares a session; without the comment on an extension, which comes with the image's version of
    it; and without the filling of views, which only pg_restore writes.
    """
    grantor = ""
    for statement in schema:
        if len(statement) == 4 and begins(statement, "set", "session", "authorization"):
            grantor = statement[3].value
        elif begins(statement, "reset", "session", "authorization"):
            grantor = ""
        elif statement[0] not in _PREPARING and not begins(statement, "comment", "on", "extension"):
            yield statement, grantor


class _Planner:
    """Makes a plan, statement by statement; each of its methods takes one kind of them."""

    def __init__(self, database: str, roles: KnownRoles) -> None:
        self.made = Plan()
        self._database, self._roles = database, roles
        self._owners: dict[Statement, str] = {}
        self._superusers: set[Statement] = set()
        self._grantor = ""

    def take(self, statement: Statement, grantor: str) -> None:
        """Take a statement: make something of it, or expect it to be there when its owner has loaded the dump."""
        is_of_database = begins(statement, "alter", "database")
        if begins(statement, "alter") and not is_of_database and begins(statement[-3:-1], "owner", "to"):
            self.made.expected.append((self._owner(statement), ""))
            return
        self._grantor = self._roles.check(grantor) if grantor else ""
        for start, method in self._methods():
            if begins(statement, *start):
                if not method(statement):
                    return
                break
        self.made.expected.append((statement, grantor))

    def _methods(self) -> list[tuple[list[str], Callable[[Statement], bool]]]:
        return [
            (["create", "database"], self._create_database),
            (["create", "extension"], self._extension),
            (["grant"], self._grant),
            (["revoke"], self._grant),
            (["alter", "default", "privileges"], self._default_grant),
            (["alter", "database"], self._setting),
            (["alter", "role"], self._setting),
            (["comment", "on", "database"], self._setting),
        ]

    def _create_database(self, statement: Statement) -> bool:
        name = statement[2].value if len(statement) > 2 else ""
        if name != self._database:
            raise HostError(f"the dump of {self._database} is of {name!r}")
        # CREATE DATABASE name WITH option = value …
        options = []
        for at in range(4, len(statement) - 2, 3):
            option, value = statement[at], statement[at + 2]
            if option.value in _LOCALE and value.kind in {WORD, TEXT}:
                options.append(render([Token(WORD, option.value), Token(SIGN, "="), value]))
            elif option.value not in {"template", "is_template", "allow_connections", "connection"}:
                raise HostError(f"the database {name} has {option.value} = {value.value}, and no restore makes that")
        self.made.create = f"CREATE DATABASE {identifier(name)} WITH TEMPLATE = template0 {' '.join(options)}"
        return True

    def _extension(self, statement: Statement) -> bool:
        # CREATE EXTENSION IF NOT EXISTS name WITH SCHEMA schema
        if len(statement) != 9:
            raise HostError(f"the extension can't be understood: {words_of(statement)}")
        name, schema = statement[5].value, statement[8].value
        if name in EXTENSIONS:
            self.made.extensions.append((name, schema))
        return True

    def _owner(self, statement: Statement) -> Statement:
        what, owner = statement[1:-3], self._roles.check(statement[-1].value)
        if not sql_text.names_one_object(what) or not statement[-1].is_name():
            raise HostError(f"a statement does more than give something to its owner: {words_of(statement)}")
        self._owners[_as_granted(what)] = owner
        if owner == self.made.owner:
            return statement
        order = Order(owner, f"alter {sql_text.render_object(what)} owner to {identifier(owner)}", statement)
        if owner != self._roles.superuser:
            self.made.owners.append(order)
        elif what[0].value in {"table", "sequence"}:
            self.made.superusers.append(order)
            self._superusers.add(what[1:])
        else:
            # A function, a view: whoever uses it would run what others wrote with the superuser's rights.
            self._owners[_as_granted(what)] = self.made.owner
            self.made.left_out.append(f"{words_of(statement)} ({self.made.owner} has it)")
            return (*statement[:-1], Token(WORD, self.made.owner))
        return statement

    def _grant(self, statement: Statement) -> bool:
        on, to = _places(statement, "on"), _places(statement, "to", "from")
        rest = statement[to[-1] + 2 :] if to else ()
        if not on or not to or on[0] > to[-1] or to[-1] + 1 == len(statement) or rest not in {(), _GRANT_OPTION}:
            raise HostError(f"the schema grants what no restore grants: {words_of(statement)}")
        # The last TO or FROM: a column of that name is quoted, and so no word.
        what, grantee = statement[on[0] + 1 : to[-1]], statement[to[-1] + 1]
        if grantee != _PUBLIC:
            self._roles.check(grantee.value)
        names = [token.value for token in what]
        owner = self._grantor or self._owners.get(what, "")
        if owner == self._roles.superuser:
            # Only what is looked at before it becomes the superuser's.
            is_relation = begins(what, "table") or begins(what, "sequence")
            allowed = is_relation and what[1:] in self._superusers
        elif owner:
            allowed = True
        elif names == ["schema", "cron"]:
            # As database.sql grants it, to one role.
            owner = self._roles.superuser
            allowed = statement[: on[0]] == _USAGE and not rest and grantee != _PUBLIC and self._has_cron()
        else:
            # Nobody of the dump owns it. But for these two it is an extension's or PostgreSQL's own: a superuser's.
            owner, allowed = self.made.owner, names[:1] == ["database"] or names == ["schema", "public"]
        return self._order(self.made.grants, owner, statement, allowed=allowed)

    def _has_cron(self) -> bool:
        return "pg_cron" in dict(self.made.extensions)

    def _default_grant(self, statement: Statement) -> bool:
        # ALTER DEFAULT PRIVILEGES FOR ROLE name …
        if len(statement) < 8 or not begins(statement[3:], "for", "role"):
            raise HostError(f"the schema grants what no restore grants: {words_of(statement)}")
        owner = self._roles.check(statement[5].value)
        return self._order(self.made.grants, owner, statement, allowed=owner != self._roles.superuser)

    def _setting(self, statement: Statement) -> bool:
        # ALTER DATABASE name …, ALTER ROLE name IN DATABASE name …, COMMENT ON DATABASE name IS …
        owner, rest = self.made.owner, statement[3:]
        if begins(statement, "alter", "role") and begins(rest, "in", "database"):
            owner, rest = self._roles.check(statement[2].value), statement[6:]
            understood = sql_text.is_setting(rest) and statement[5].value == self._database
        elif begins(statement, "comment"):
            understood = len(rest) == 3 and rest[0].value == self._database and rest[2].kind == TEXT
        elif begins(statement, "alter", "database"):
            understood = statement[2:3] != () and statement[2].value == self._database
            if understood and len(rest) == 3 and begins(rest, "owner", "to"):
                if owner not in {"", rest[2].value}:
                    raise HostError(f"the dump of {self._database} gives it to two owners")
                self.made.owner = self._roles.check(rest[2].value)
                return True
            is_limit = begins(rest, "connection", "limit") and [each.kind for each in rest[2:]] == [SIGN, NUMBER]
            is_template = begins(rest, "is_template")
            understood = understood and (sql_text.is_setting(rest) or is_limit or is_template)
        else:
            understood = False
        if not understood or not owner:
            raise HostError(f"the schema sets what no restore sets: {words_of(statement)}")
        allowed = owner != self._roles.superuser and not begins(rest, "is_template")
        return self._order(self.made.settings, owner, statement, allowed=allowed)

    def _order(self, orders: list[Order], role: str, statement: Statement, *, allowed: bool) -> bool:
        if allowed:
            orders.append(Order(role, render(statement), statement))
        else:
            self.made.left_out.append(words_of(statement))
        return allowed


def _as_granted(what: Statement) -> Statement:
    """Return an object as GRANT names it, which calls every relation but a sequence a table."""
    for kind in _TABLES:
        if begins(what, *kind):
            return (Token(WORD, "table"), *what[len(kind) :])
    return what


def _places(statement: Statement, *words: str) -> list[int]:
    return [at for at, token in enumerate(statement) if token.kind == WORD and token.value in words]
