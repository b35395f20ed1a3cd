"""The roles of a run: read from what pg_dumpall wrote, and made by statements of our own.

pg_dumpall's script is never run. Whoever can write a repository could put anything there: another superuser, a
membership that lets a role run programs, a setting that loads a library into the superuser's next session.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

from zmanim_host.backup import sql_text
from zmanim_host.backup.record import GlobalsPart
from zmanim_host.backup.restic import Repository
from zmanim_host.backup.sql_text import NUMBER, TEXT, WORD, Statement, Token, begins, identifier, literal
from zmanim_host.host import HostError
from zmanim_host.postgres import APPLICATION, HOME, SUPERUSER, Server

BACKUP = "zmanim_backup"
# Who may give away what a database's owner has loaded, while that is done: it has the owner's rights and no others.
GIVER = "zmanim_restore"
# What a role may be. Everything else is a superuser's work, or gives it away.
HARMLESS = ("inherit", "noinherit", "login", "nologin", "createdb", "nocreatedb")
NEVER = ("superuser", "createrole", "replication", "bypassrls")
# The two that database.sql makes, and all that they are members of.
OURS = {APPLICATION: frozenset[str](), BACKUP: frozenset({"pg_read_all_data"})}
# PostgreSQL's own roles whose members read or write the server's files, run programs, or open connections.
DANGEROUS = frozenset(
    ("pg_read_server_files", "pg_write_server_files", "pg_execute_server_program", "pg_create_subscription")
)
# Every role that can do more than another one: by an attribute, or as a member; and what is set for the superuser's
# sessions or for everybody's. PostgreSQL's own roles are members of each other.
_POWERS = """
SELECT json_build_array('role', rolname::text, attribute) FROM pg_roles, LATERAL (VALUES
  ('superuser', rolsuper), ('createrole', rolcreaterole), ('createdb', rolcreatedb), ('replication', rolreplication),
  ('bypassrls', rolbypassrls), ('a name of PostgreSQL''s own', rolname ~ '^pg_' AND oid >= 16384)
) AS has (attribute, given) WHERE given AND oid <> 10
UNION ALL SELECT json_build_array('member', m.rolname::text, g.rolname::text) FROM pg_auth_members
  JOIN pg_roles g ON g.oid = roleid JOIN pg_roles m ON m.oid = member
  WHERE m.oid >= 16384 OR g.oid >= 16384 OR g.oid = 10
UNION ALL SELECT json_build_array('admin', m.rolname::text, g.rolname::text) FROM pg_auth_members
  JOIN pg_roles g ON g.oid = roleid JOIN pg_roles m ON m.oid = member WHERE admin_option
UNION ALL SELECT json_build_array('set', CASE setrole WHEN 0 THEN 'everybody' ELSE 'the superuser' END, setting)
  FROM pg_db_role_setting, unnest(setconfig) AS u (setting) WHERE setrole = 10 OR setrole = 0 AND setdatabase = 0
UNION ALL SELECT json_build_array('parameter', parname, paracl::text) FROM pg_parameter_acl;
"""
_END = "-- PostgreSQL database cluster dump complete"
# What a role has: the kind of row in _POWERS, who has it, and what it is.
Power = tuple[str, str, str]


@dataclass
class Roles:
    """Statements of our own, in their order; `settings` are run as the role that they are about.

    Until all is loaded every role may connect, and has no right that it does not need for that: `finish` makes them
    what they were. `powers` is what the cluster has to have then, and no more.
    """

    create: list[str] = field(default_factory=list)
    memberships: list[str] = field(default_factory=list)
    settings: dict[str, list[str]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    finish: list[str] = field(default_factory=list)
    powers: set[Power] = field(default_factory=set)


def whole(script: str) -> str:
    """Return a script of pg_dumpall's; HostError unless it has its end."""
    if _END not in script:
        raise HostError(f"the roles are not whole: they lack {_END!r}")
    return script


def read_globals(repo: Repository, part: GlobalsPart) -> str:
    """Return the script of a run, from where its record has it. Raises HostError."""
    return whole(part.sql or repo.read(part.snapshot, "/globals.sql"))


def parse_globals(script: str, expected: Collection[str]) -> Roles:
    """Return the roles of a script of pg_dumpall's; `expected` are the names that the record has.

    Raises HostError that names a role, a membership or a statement that no restore makes.
    """
    if GIVER in expected:
        raise HostError(f"the run has a role called {GIVER!r}, which is the restore's own: rename it in production")
    result, attributes = Roles(), {name: list[Token]() for name in expected if name != SUPERUSER}
    for statement in sql_text.statements(script):
        if begins(statement, "set") or begins(statement, "select", "pg_catalog"):
            continue
        if len(statement) == 3 and begins(statement, "create", "role"):
            if statement[2].value not in expected:
                raise HostError(f"the roles hold {statement[2].value!r}, which the record does not have")
        elif len(statement) > 4 and begins(statement, "alter", "role"):
            _alter(result, statement, attributes)
        elif len(statement) > 3 and begins(statement, "grant") and statement[2] == Token(WORD, "to"):
            _membership(result, statement, expected)
        elif len(statement) == 6 and begins(statement, "comment", "on", "role") and statement[5].kind == TEXT:
            result.create.append(f"COMMENT ON ROLE {identifier(statement[3].value)} IS {literal(statement[5].value)};")
        else:
            raise _never_run(statement)
    made = [_make(result, name, given) for name, given in attributes.items()]
    result.create[:0] = made
    return result


def check_powers(server: Server, roles: Roles, expected: Collection[str]) -> list[str]:
    """Return which roles a cluster lacks; HostError when it has a role, or one a right, that nobody gave to it.

    It is no proof once a superuser's code ran there: none does, and this is the second look.
    """
    powers = {(str(kind), str(who), str(what)) for kind, who, what in map(json.loads, server.query(HOME, _POWERS))}
    more = sorted(powers - roles.powers)
    if more:
        raise HostError(
            f"the restored cluster has what nobody gave to it: {'; '.join(' '.join(one) for one in more[:5])}"
        )
    made = set(server.roles())
    extra = sorted(made - set(expected) - {SUPERUSER})
    if extra:
        raise HostError(f"the restored cluster has the roles {extra}, which the record does not have")
    return sorted(set(expected) - made)


def _never_run(statement: Statement) -> HostError:
    return HostError(
        f"the roles hold a statement that no restore runs: {' '.join(token.value for token in statement[:6])}"
    )


def _make(result: Roles, name: str, given: Sequence[Token]) -> str:
    if name.startswith("pg_"):
        raise HostError(f"the role {name!r} has a name of PostgreSQL's own")
    words, rest = [], iter(given)
    for token in rest:
        flag = token.value if token.kind == WORD else ""
        if flag in NEVER and not (flag == "bypassrls" and name == BACKUP):
            raise HostError(f"the role {name!r} is {flag.upper()}, and no restore makes such a role: make it by hand")
        if flag in HARMLESS:
            words.append(flag.upper())
        elif flag == "connection":
            words.append(f"CONNECTION LIMIT {int(_value(name, rest, 'limit', NUMBER))}")
        elif flag == "valid":
            words.append(f"VALID UNTIL {literal(_value(name, rest, 'until', TEXT))}")
        elif flag not in {f"no{never}" for never in NEVER} | {"bypassrls"}:
            raise HostError(f"the role {name!r} has an attribute that can't be understood: {token.value!r}")
    if not {"LOGIN", "NOLOGIN"} & set(words):
        words.append("NOLOGIN")
    fixed = "NOSUPERUSER NOCREATEROLE NOREPLICATION"
    if name in OURS:
        # As database.sql has them: nobody shuts the API or its backups out.
        words = [word for word in words if " " not in word and word not in {"LOGIN", "NOLOGIN", "CREATEDB"}]
        words += ["LOGIN", "CONNECTION LIMIT -1"]
    if name == BACKUP:
        words.append("BYPASSRLS")
        result.powers.add(("role", name, "bypassrls"))
    if "CREATEDB" in words:
        result.powers.add(("role", name, "createdb"))
    result.finish.append(f"ALTER ROLE {identifier(name)} {' '.join(words)};")
    return f"CREATE ROLE {identifier(name)} LOGIN NOCREATEDB NOBYPASSRLS {fixed};"


def _value(name: str, rest: Iterator[Token], word: str, kind: str) -> str:
    second, value = next(rest, None), next(rest, None)
    if second != Token(WORD, word) or value is None or value.kind != kind:
        raise HostError(f"the role {name!r} has an attribute that can't be understood: {word}")
    return value.value


def _alter(result: Roles, statement: Statement, attributes: dict[str, list[Token]]) -> None:
    name = statement[2].value
    if name == SUPERUSER:
        if not begins(statement[3:], "with"):
            about = " ".join(token.value for token in statement[:6])
            result.left_out.append(f"{about} (the superuser has no settings)")
    elif name not in attributes or not statement[2].is_name():
        raise HostError(f"the roles hold a statement about {name!r}, which the record does not have")
    elif begins(statement[3:], "with"):
        attributes[name] = list(statement[4:])
    elif not sql_text.is_setting(statement[3:]):
        raise _never_run(statement)
    elif name != BACKUP:  # its settings are database.sql's, which runs before the API does
        settings = result.settings.setdefault(name, [])
        settings.append(f"ALTER ROLE {identifier(name)} {sql_text.render(statement[3:])}")


def _membership(result: Roles, statement: Statement, expected: Collection[str]) -> None:
    group, member = statement[1].value, statement[3].value
    words = [token.value for token in statement[4:]]
    options = words[: words.index("granted")] if "granted" in words else words
    if not statement[1].is_name() or not statement[3].is_name():
        raise _never_run(statement)
    if any(word not in {"with", "admin", "inherit", "set", "option", "true", "false", ","} for word in options):
        raise HostError(f"the membership of {member!r} in {group!r} can't be understood: {' '.join(options[:9])}")
    known = group in expected or group.startswith("pg_")
    if not known or group in {SUPERUSER, BACKUP, *DANGEROUS} or member not in expected:
        raise HostError(f"{member!r} is a member of {group!r}, and no restore makes that membership: make it by hand")
    if member in OURS:
        options = ["with", "inherit", "true"]
    if group not in OURS.get(member, expected):
        result.left_out.append(f"the membership of {member!r} in {group!r}")
        return
    made = f"GRANT {identifier(group)} TO {identifier(member)} {' '.join(options).upper()}"
    result.memberships.append(f"{made.strip()};")
    result.powers.add(("member", member, group))
    if "admin" in options and options[options.index("admin") + 1 :][:1] != ["false"]:
        result.powers.add(("admin", member, group))
