"""What Parameter Store tells a machine that is no secret: the buckets' names, and who is mailed about failures.

account.apply writes them beside the secrets, and this is the one way by which they reach an instance: an image holds
none, so it can be shared with another account or copied to another region.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from zmanim_host.host import RUN, WARNING, log, write_whole

FILE: Final = RUN / "account"
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_ADDRESS = re.compile(r"[A-Za-z0-9._+-]+@[a-z0-9-]+(\.[a-z0-9-]+)+")
# What each parameter has to look like. Units read the file as their environment, and restore.sh as a script.
PUBLIC: Final = {"backups-bucket": _BUCKET, "releases-bucket": _BUCKET, "mail-from": _ADDRESS, "mail-to": _ADDRESS}


def variable(name: str) -> str:
    """Return the variable that holds a parameter."""
    return name.upper().replace("-", "_")


def content(values: Mapping[str, str]) -> str:
    """Return the file's content from all parameters; one that is missing, or is not of its form, gives no variable."""
    lines = []
    for name, form in PUBLIC.items():
        value = values.get(name, "")
        if form.fullmatch(value):
            lines.append(f"{variable(name)}={value}\n")
        else:
            found = f"{value!r}, which is none" if value else "missing"
            log(f"the parameter {name} is {found}: ./inv account.apply", WARNING)
    return "".join(lines)


def write(values: Mapping[str, str]) -> None:
    """Write the file, whole, for everybody to read."""
    write_whole(FILE, content(values))
