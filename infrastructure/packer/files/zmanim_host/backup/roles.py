"""The roles of a run: read from what pg_dumpall wrote, and made by statements of our own.

pg_dumpall's script is never run. Whoever can write a repository could put anything there: another superuser, a
membership that lets a role run programs, a setting that loads a library into the superuser's next session.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from zmanim_host.backup.sql_text import NUMBER, TEXT, WORD, Statement, Token, identifier, literal, render, statements
from zmanim_host.host import HostError

SUPERUSER = "postgres"
BACKUP = "zmanim_backup"
# What a role may be. Everything else is a superuser's work, or gives it away.
HARMLESS = ("inherit", "noinherit", "login", "nologin", "createdb", "nocreatedb")
NEVER = ("superuser", "createrole", "replication", "bypassrls")
# PostgreSQL's own roles that a role may be a member of: none that reads or writes the server's files, runs programs, or
# opens connections.
PREDEFINED = frozenset(
    (
        *("pg_read_all_data", "pg_write_all_data", "pg_monitor", "pg_read_all_settings", "pg_read_all_stats"),
        *("pg_stat_scan_tables", "pg_signal_backend", "pg_use_reserved_connections", "pg_checkpoint", "pg_maintain"),
    )
)


@dataclass
class Roles:
    """Statements of our own, in their order; `settings` are run as the role that they are about.

    `closed` are the roles that may not connect.
    """

    create: list[str] = field(default_factory=list)
    memberships: list[str] = field(default_factory=list)
    settings: list[tuple[str, str]] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)


def parse_globals(script: str, expected: Collection[str]) -> Roles:
    """Return the roles of a script of pg_dumpall's; `expected` are the names that the record has.

    Raises HostError that names a role, a membership or a statement that no restore makes.
    """
    result, attributes = Roles(), {name: list[Token]() for name in expected if name != SUPERUSER}
    for statement in statements(script):
        words = [token.value for token in statement]
        if words[0] == "set" or words[:2] in (["create", "role"], ["select", "pg_catalog"]):
            if words[0] == "create" and words[2] not in expected:
                raise HostError(f"the roles hold {words[2]!r}, which the record does not have")
        elif words[:2] == ["alter", "role"]:
            _alter(result, statement, attributes)
        elif words[0] == "grant":
            result.memberships.append(_membership(statement, expected))
        elif words[:3] == ["comment", "on", "role"] and len(words) == 6:
            result.create.append(f"COMMENT ON ROLE {identifier(words[3])} IS {literal(words[5])};")
        else:
            raise HostError(f"the roles hold a statement that no restore runs: {' '.join(words[:6])}")
    result.create[:0] = [_create(name, given) for name, given in attributes.items()]
    result.closed += [name for name, given in attributes.items() if Token(WORD, "login") not in given]
    return result


def _create(name: str, given: Sequence[Token]) -> str:
    if name.startswith("pg_"):
        raise HostError(f"the role {name!r} has a name of PostgreSQL's own")
    words, rest = [], list(given)
    while rest:
        token = rest.pop(0)
        flag = token.value if token.kind == WORD else ""
        if flag in NEVER and not (flag == "bypassrls" and name == BACKUP):
            raise HostError(f"the role {name!r} is {flag.upper()}, and no restore makes such a role: make it by hand")
        if flag in HARMLESS:
            words.append(flag.upper())
        elif flag == "connection" and [each.kind for each in rest[:2]] == [WORD, NUMBER]:
            words.append(f"CONNECTION LIMIT {int(rest[1].value)}")
            del rest[:2]
        elif flag == "valid" and [each.kind for each in rest[:2]] == [WORD, TEXT]:
            words.append(f"VALID UNTIL {literal(rest[1].value)}")
            del rest[:2]
        elif flag not in {f"no{never}" for never in NEVER} | {"bypassrls"}:
            raise HostError(f"the role {name!r} has an attribute that can't be understood: {token.value!r}")
    fixed = "NOSUPERUSER NOCREATEROLE NOREPLICATION"
    bypass = "BYPASSRLS" if name == BACKUP else "NOBYPASSRLS"
    return f"CREATE ROLE {identifier(name)} {' '.join([*words, fixed, bypass])};"


def _alter(result: Roles, statement: Statement, attributes: dict[str, list[Token]]) -> None:
    name, verb = statement[2].value, statement[3].value
    about = " ".join(token.value for token in statement[:6])
    if name == SUPERUSER:
        if verb != "with":
            result.left_out.append(f"{about} (the superuser has no settings)")
    elif name not in attributes or not statement[2].is_name():
        raise HostError(f"the roles hold a statement about {name!r}, which the record does not have: {about}")
    elif verb == "with":
        attributes[name] = list(statement[4:])
    elif verb == "set" and name == BACKUP:
        pass  # database.sql's, which runs before the API does
    elif verb == "set":
        result.settings.append((name, f"ALTER ROLE {identifier(name)} {render(statement[3:])}"))
    else:
        raise HostError(f"the roles hold a statement that no restore runs: {about}")


def _membership(statement: Statement, expected: Collection[str]) -> str:
    words = [token.value for token in statement]
    if len(words) < 4 or words[2] != "to" or not statement[1].is_name() or not statement[3].is_name():
        raise HostError(f"the roles hold a statement that no restore runs: {' '.join(words[:6])}")
    group, member = words[1], words[3]
    known = set(expected) - {SUPERUSER, BACKUP} | PREDEFINED
    if group not in known or member not in expected:
        raise HostError(f"{member!r} is a member of {group!r}, and no restore makes that membership: make it by hand")
    options = words[4 : words.index("granted") if "granted" in words[4:] else None]
    text = " ".join(options)
    if any(word not in {"with", "admin", "inherit", "set", "option", "true", "false", ","} for word in options):
        raise HostError(f"the membership of {member!r} in {group!r} can't be understood: {text}")
    return f"GRANT {identifier(group)} TO {identifier(member)} {text.upper()};".replace(" ;", ";")
