"""Each secret in the one file, on tmpfs, from which the one unit that needs it gets it."""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping
from pathlib import Path

from zmanim_host.host import RUN, log, write_whole
from zmanim_host.secrets import public
from zmanim_host.secrets.escaping import environment_line, redis_password_hash, url_part
from zmanim_host.secrets.parameters import API_VARIABLES, fetch_required

# What the API may do in Redis: everything with its data, nothing with the server.
API_COMMANDS = "+@all -@admin -@dangerous"
DATABASE_URL = "postgres://zmanim@/zmanim?host=/run/postgresql"
# What the API is told that no parameter holds, and everybody may know.
FIXED = {
    "ENVIRONMENT": "production",
    "HOST": "0.0.0.0",  # noqa: S104 - meant: the API is what this machine is there to serve
    "PORT": "8080",
    "DATABASE_URL": DATABASE_URL,
}


def api_environment(values: Mapping[str, str]) -> dict[str, str]:
    """Return the API's whole environment from the parameters; a parameter that does not exist gives no variable."""
    environment = {
        **FIXED,
        "REDIS_URL": f"redis://zmanim:{url_part(values['redis-password'])}@127.0.0.1:6379/0",
    }
    for known in API_VARIABLES:
        if known.name in values:
            environment[known.variable] = values[known.name]
    return environment


def redis_acl(api: str, backup: str, ready: str) -> str:
    """Return Redis's ACL file from the passwords of its three users."""
    return (
        "user default off\n"
        f"user zmanim on {redis_password_hash(api)} ~* &* {API_COMMANDS}\n"
        f"user backup on {redis_password_hash(backup)} +ping +psync +replconf +sync\n"
        f"user ready on {redis_password_hash(ready)} ~zmanim-ready +ping +info +set +get\n"
    )


def files(values: Mapping[str, str], *, backup: str, ready: str) -> dict[str, str]:
    """Return the content of every file below the secrets' directory, by its relative path.

    `backup` and `ready` are the passwords of this boot's two local Redis users.
    """
    made = {
        "api.env": "".join(environment_line(name, value) for name, value in api_environment(values).items()),
        "redis.acl": redis_acl(values["redis-password"], backup, ready),
        "ready/redis-password": ready,
        "backup/redis-password": backup,
    }
    if values.get("restic-password"):
        made["backup/restic-password"] = values["restic-password"]
    return made


def put(directory: Path, made: Mapping[str, str]) -> None:
    """Write `made` below `directory`, readable by its owner alone, and remove what is no longer among it."""
    directory.mkdir(mode=0o700, exist_ok=True)
    for name, content in made.items():
        path = directory / name
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_whole(path, content, mode=0o400)
    for path in directory.rglob("*"):
        if path.is_file() and path.relative_to(directory).as_posix() not in made:
            path.unlink()


def command() -> None:
    """Fetch the environment's parameters and write each unit's own."""
    path = f"/zmanim/{os.environ['ZMANIM_ENVIRONMENT']}/"
    # Without a secret too: whoever mails that it is missing has to know to whom.
    values = fetch_required(path, patience=float(os.environ["ZMANIM_SECRETS_PATIENCE"]), seen=public.write)
    made = files(values, backup=secrets.token_urlsafe(32), ready=secrets.token_urlsafe(32))
    put(RUN / "secrets", made)
    # Names only.
    log(f"{len(values)} parameters below {path}: {', '.join(sorted(values))}")
    if "backup/restic-password" not in made:
        log(f"there is no {path}restic-password: backups will fail until there is")
