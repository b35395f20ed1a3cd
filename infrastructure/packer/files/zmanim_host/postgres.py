"""psql, called the same way everywhere."""

from __future__ import annotations

from zmanim_host.host import run


def psql(*arguments: str, timeout: float, user: str | None = None, input: str | None = None) -> str:
    """Run psql on the database zmanim through the socket, as the system user `user` (and role of that name) if given.

    Returns its rows, one a line, columns separated by |. Raises HostError when a statement fails.
    """
    connection = {"PGHOST": "/run/postgresql", "PGDATABASE": "zmanim", "PGCONNECT_TIMEOUT": "5"}
    if user:
        connection["PGUSER"] = user
    command = [
        "psql",
        "--no-psqlrc",
        "--no-password",
        "--quiet",
        "--no-align",
        "--tuples-only",
        "--set=ON_ERROR_STOP=1",
    ]
    # Notices ("exists already, skipping") would be taken for something that matters.
    connection["PGOPTIONS"] = "--client-min-messages=warning"
    return run([*command, *arguments], timeout=timeout, user=user, environment=connection, input=input).stdout
