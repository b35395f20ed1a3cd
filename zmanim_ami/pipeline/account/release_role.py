"""The role that publishes the API's releases in one environment: zmanim-release-{environment}.

What it may do is release.json, who may take it is release-trust.json, both in infrastructure/iam. Neither an instance
nor a workflow has it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from zmanim_ami.pipeline.account import roles
from zmanim_ami.pipeline.account.roles import Row
from zmanim_ami.pipeline.aws import Clients

_POLICY = "release"


def name(environment: str) -> str:
    """Return the name of the role that publishes the API's releases in an environment."""
    return f"zmanim-release-{environment}"


def plan(clients: Clients, environment: str, account: str, directory: Path) -> Iterator[Row]:
    """Yield what the role of `environment` lacks or has too much.

    Raises `policies-invalid`, and botocore's errors.
    """
    values = {"environment": environment, "account": account, "region": clients.region}
    trust = roles.read(directory / f"{_POLICY}-trust.json", values)
    inline = {_POLICY: roles.read(directory / f"{_POLICY}.json", values)}
    yield from roles.role_rows(clients, name(environment), trust, inline, "zmanim: publishes the API's releases")
