"""Which parameters there are, and reading them from Parameter Store with the instance's role."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zmanim_host.host import HostFault, log, run


@dataclass(frozen=True)
class ApiVariable:
    """A variable of the API's environment that is a parameter of its own."""

    parameter: str
    variable: str


# The variable is the parameter's name in capitals, without exception; the list says which the API reads.
API_VARIABLES: Sequence[ApiVariable] = tuple(
    ApiVariable(name, name.upper().replace("-", "_"))
    for name in (
        "jwt-secret",
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
)
# Without these nothing may start. restic-password is not among them: a missing backup is loud by itself, and must not
# take the service down.
REQUIRED = ("jwt-secret", "redis-password")

Fetch = Callable[[str], "dict[str, str]"]


def fetch_by_path(path: str) -> dict[str, str]:
    """Return every parameter below `path` (such as /zmanim/prod/), decrypted, by its name without the path.

    One call of the AWS CLI for all of them: it takes a second to start. It follows every page, empty ones too.
    Raises HostFault with what AWS answered; AWS's errors hold no values.
    """
    command = ["aws", "ssm", "get-parameters-by-path", "--path", path, "--with-decryption"]
    command += ["--output", "json", "--no-cli-pager", "--cli-connect-timeout", "5", "--cli-read-timeout", "10"]
    # It has no other home to look for settings in; one try of its own, because we retry.
    done = run(command, timeout=60, environment={"HOME": "/nonexistent", "AWS_MAX_ATTEMPTS": "1"})
    return named_values(path, done.stdout)


def named_values(path: str, answer: str) -> dict[str, str]:
    """Return the values by name from the CLI's JSON; HostFault (without the text) when it is not what was expected."""
    try:
        return {item["Name"][len(path) :]: item["Value"] for item in json.loads(answer)["Parameters"]}
    except (ValueError, KeyError, TypeError):
        raise HostFault(f"Parameter Store's answer for {path} can't be understood") from None


def fetch_required(
    path: str,
    *,
    fetch: Fetch = fetch_by_path,
    patience: float = 120.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, str]:
    """Return the parameters below `path`, trying again, more and more slowly, for `patience` seconds.

    Denied and missing are tried again like an outage: a role's new policy, or a parameter that is just being made,
    takes a while to arrive. Raises HostFault that names the last reason and no value.
    """
    deadline = clock() + patience
    pause = 1.0
    while True:
        try:
            values = fetch(path)
            missing = [path + name for name in REQUIRED if not values.get(name)]
            if not missing:
                return values
            reason = f"missing or empty in Parameter Store: {', '.join(missing)}"
        except HostFault as fault:
            reason = str(fault)
        if clock() + pause >= deadline:
            raise HostFault(f"the secrets can't be had: {reason}")
        log(f"{reason}; trying again in {pause:.0f} s")
        sleep(pause)
        pause = min(pause * 2, 15.0)
