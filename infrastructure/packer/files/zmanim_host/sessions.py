"""What a session of ours is given by PGOPTIONS: that outranks whatever is set for a role or for a database.

A database's owner may set some 145 settings for everybody who connects to it: time limits that end a dump, a library
that is not there, `role`, which makes the superuser's session the owner's, a search_path that puts functions of its own
before PostgreSQL's. A list of the harmful ones would be one short with each new version. So every name that is set for
anybody is given the value that it has without; and what has to be ours anyhow is always given. Nothing of theirs is
reset: it is for the API's own sessions.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

CONFIGURATION = Path("/etc/zmanim/postgresql.conf")
# Warnings about what is set beneath are no failure; notices ("exists already, skipping") would be taken for warnings.
ALWAYS = {"search_path": "pg_catalog", "role": "none", "local_preload_libraries": "", "client_min_messages": "warning"}
# Another role may not even name these: the connection is refused then.
SUPERUSER = {"event_triggers": "off", "session_preload_libraries": ""}
# For the session that asks what is set: it has to live until it is told.
PATIENT = dict.fromkeys(
    (
        "statement_timeout",
        "transaction_timeout",
        "lock_timeout",
        "idle_session_timeout",
        "idle_in_transaction_session_timeout",
    ),
    "0",
)
# Which settings are set for any role or database, with their values here and PostgreSQL's own defaults. Only what may
# be given in PGOPTIONS: the others are refused there, and only a superuser can set them. Names that nothing has defined
# here (an extension's, or made up) are left out: there might be any number of them.
NAMES = """SELECT json_build_array(name, setting, boot_val) FROM pg_settings
WHERE (context = 'user' OR context = 'superuser' AND current_setting('is_superuser') = 'on')
  AND lower(name) IN
    (SELECT lower(split_part(setting, '=', 1)) FROM pg_db_role_setting, unnest(setconfig) AS u (setting))
ORDER BY name"""


def here(rows: Iterable[str]) -> dict[str, str]:
    """Return the settings of NAMES' rows with their values in the session that asked."""
    return {name: value or "" for name, value, _ in map(json.loads, rows)}


def configured(rows: Iterable[str], configuration: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of NAMES' rows as the server was configured: what asked was itself set by a lesser role."""
    return {name: configuration.get(name.lower(), default or "") for name, _, default in map(json.loads, rows)}


def read_configuration(path: Path) -> dict[str, str]:
    """Return the settings of a configuration file of ours, by their names in lower case. Raises OSError."""
    settings: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines():
        match = re.fullmatch(r"\s*([\w.]+)\s*=\s*('[^']*'|[^\s#]+)\s*(?:#.*)?", line)
        if match and match[1] == "include":
            settings.update(read_configuration(Path(match[2].strip("'"))))
        elif match:
            settings[match[1].lower()] = match[2].strip("'")
    return settings


def pgoptions(settings: Mapping[str, str]) -> str:
    """Return PGOPTIONS that gives these settings; a backslash keeps a space in a value (libpq-connect, `options`)."""
    return " ".join("-c {}={}".format(name, re.sub(r"([\\\s])", r"\\\1", value)) for name, value in settings.items())
