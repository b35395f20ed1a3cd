"""The table of parameters, and reading them from Parameter Store with the instance's role.

The table is the one place that says which parameters there are, who gets each, and which are required: what is written
for the units (secret_files.py), config.env.template, the README's table and account.plan's parameters agree with it, by
tests.
"""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from zmanim_host.aws import client, imds
from zmanim_host.host import CLOCK, Clock, HostError, log
from zmanim_host.systemd import API, REDIS

BACKUP = "restic-backup.service"
DRILL = "backup-drill.service"
PROOF = "backup-proof.service"


class Need(enum.Enum):
    """What a machine lacks without a parameter."""

    ALL = "required: without it Redis and the API don't start"
    # A missing backup is loud by itself, and must not take the service down.
    BACKUPS = "required for backups: without it they fail"
    NOTHING = "optional"


@dataclass(frozen=True)
class Parameter:
    """One parameter below /zmanim/ENVIRONMENT/, and the units that get it.

    `variable` is the name that the API reads it by, when it is one variable's whole value.
    """

    name: str
    need: Need
    units: tuple[str, ...]
    variable: str = ""


def _of_the_api(name: str, need: Need = Need.NOTHING) -> Parameter:
    # The variable is the parameter's name in capitals, without exception.
    return Parameter(name, need, (API,), name.upper().replace("-", "_"))


PARAMETERS: Sequence[Parameter] = (
    Parameter("redis-password", Need.ALL, (REDIS, API)),
    _of_the_api("jwt-secret", Need.ALL),
    Parameter("restic-password", Need.BACKUPS, (BACKUP, DRILL, PROOF)),
    *(
        _of_the_api(name)
        for name in (
            "allowed-origins",
            "clerk-jwks-url",
            "clerk-issuer",
            "clerk-audience",
            "clerk-secret-key",
            "origin-verify-key",
            "anthropic-api-key",
            "openai-api-key",
            "resend-api-key",
            "resend-from",
            "resend-domain",
            "recaptcha-secret-key",
            "mapbox-public-token",
            "web-url",
            "admin-email",
            "rate-limit-requests",
            "rate-limit-duration",
        )
    ),
)
API_VARIABLES = tuple(known for known in PARAMETERS if known.variable)
REQUIRED = tuple(known.name for known in PARAMETERS if known.need is Need.ALL)

Fetch = Callable[[str], "dict[str, str]"]


def fetch_by_path(path: str) -> dict[str, str]:
    """Return every parameter below `path` (such as /zmanim/prod/), decrypted, by its name without the path.

    One try. Raises HostError with what AWS answered; AWS's errors hold no values.
    """
    # The role's keys are asked for at each try: while a machine waits for its secrets, they may come to an end.
    credentials = client.instance_credentials(imds.connect(wait=5))
    return client.get_parameters_by_path(client.Session(os.environ["AWS_REGION"], credentials), path)


def fetch_required(
    path: str,
    *,
    fetch: Fetch = fetch_by_path,
    patience: float,
    clock: Clock = CLOCK,
    seen: Callable[[Mapping[str, str]], None] = lambda _values: None,
) -> dict[str, str]:
    """Return the parameters below `path`, trying again, more and more slowly, for `patience` seconds.

    Denied and missing are tried again like an outage: a role's new policy, or a parameter that is just being made,
    takes a while to arrive. `seen` is given what each try has found. Raises HostError that names the last reason and no
    value.
    """
    deadline = clock.now() + patience
    pause = 1.0
    while True:
        try:
            values = fetch(path)
            seen(values)
            missing = [path + name for name in REQUIRED if not values.get(name)]
            if not missing:
                return values
            reason = f"missing or empty in Parameter Store: {', '.join(missing)}"
        except HostError as error:
            reason = str(error) if path in str(error) else f"{path}: {error}"
        if clock.now() + pause >= deadline:
            raise HostError(f"the secrets can't be had: {reason}")
        log(f"{reason}; trying again in {pause:.0f} s")
        clock.sleep(pause)
        pause = min(pause * 2, 15.0)
