"""What an account needs for one environment (prod, verify, …), as a plan of what is missing or differs.

`plan` looks and says why; `apply` does exactly the rows it is given. After an apply the next plan is empty.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from support.errors import BadInput
from support.progress import say
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account import (
    alarms,
    buckets,
    github,
    network,
    release_key,
    roles,
    workflow_roles,
)
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.settings import Settings

DEFAULTS = Settings()
BUCKETS = ("backups", "releases")
# Made here because nobody has to know them: the instance reads them by its role. restic's also opens the backups, so
# it has to be kept outside of the account as well (README.md).
SECRETS = ("redis-password", "jwt-secret", "restic-password")
VERIFY = "verify"


def plan(
    clients: aws.Clients,
    environment: str,
    *,
    policies: Path,
    subnet_id: str = "",
    workflows: workflow_roles.Workflows | None = None,
    settings: Settings = DEFAULTS,
) -> list[Change]:
    """Return what is missing for `environment`, in the order in which it has to be made; changes nothing.

    `policies` is infrastructure/iam. The network, and the roles of `workflows` when there are any, are planned with the
    environment `verify`, where instances are launched by this project itself; `subnet_id` is the setting of that name.
    With those roles it says what has to be set on GitHub.

    Raises `environment-invalid`, `bucket-not-ours`, `policies-invalid`, aws's errors.
    """
    check_environment(environment)
    account, verifies = aws.account(clients), environment == VERIFY
    with aws.translate_errors(f"looking at what {environment} has"):
        changes: list[Change] = []
        for kind in BUCKETS:
            name = f"zmanim-{kind}-{environment}"
            changes += buckets.plan(clients, name, account, backups=kind == "backups", passing=verifies)
        changes += _secrets(clients, environment)
        changes += release_key.plan(clients, environment)
        changes += roles.plan(clients, environment, account, policies)
        changes += alarms.plan(clients, settings, environment, account, watched=not verifies)
        if verifies:
            changes += network.plan(clients, subnet_id)
        if verifies and workflows is not None:
            changes += workflow_roles.plan(clients, account, policies, workflows)
            say("on GitHub, where nothing here can look: who may take the workflows' roles hangs on")
            for rule in github.rules(workflows.subject):
                say(f"  - {rule}")
    return changes


def check_environment(environment: str) -> None:
    """Raise `environment-invalid` unless this can be an environment's name; asks nobody."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,19}", environment, re.ASCII):
        raise BadInput(
            f"{environment!r} is no environment's name",
            code="environment-invalid",
            expected="a-z, 0-9 and '-', such as prod",
            found=environment,
        )


def _secrets(clients: aws.Clients, environment: str) -> Iterator[Change]:
    names = [f"/zmanim/{environment}/{name}" for name in SECRETS]
    # DescribeParameters tells names without values: a plan needs no right to read a secret.
    pages = clients.ssm.get_paginator("describe_parameters").paginate(
        ParameterFilters=[{"Key": "Name", "Option": "Equals", "Values": names}]
    )
    existing = {item.get("Name") for page in pages for item in page["Parameters"]}
    for name in names:
        if name not in existing:
            yield Change("create", f"secret {name}", "there is none", partial(_create_secret, clients, name))


def _create_secret(clients: aws.Clients, name: str) -> None:
    try:
        clients.ssm.put_parameter(
            Name=name,
            Description="zmanim: random, made by account.apply",
            Value=secrets.token_urlsafe(48),
            Type="SecureString",
            Overwrite=False,
        )
    except clients.ssm.exceptions.ParameterAlreadyExists:
        say(f"{name} has appeared meanwhile: left as it is")
