"""What an account needs for one environment (prod, verify, …), as a plan of what is missing or differs.

`plan` looks and says why; `apply` does exactly the rows it is given. After an apply the next plan is empty.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
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
    public_parameters,
    region_defaults,
    roles,
    workflow_roles,
)
from zmanim_ami.pipeline.account.changes import Change
from zmanim_ami.pipeline.account.keys import release_key, signing_key
from zmanim_ami.pipeline.settings import Settings

BUCKETS = public_parameters.KINDS
DEFAULTS = Settings()
# Made here because nobody has to know them: the instance reads them by its role. restic's also opens the backups, so
# it has to be kept outside of the account as well (docs/on-aws.md).
SECRETS = ("redis-password", "jwt-secret", "restic-password")
VERIFY = "verify"
# Nobody but the verify role may sign with it (infrastructure/iam/verify.json).
VERIFICATION_KEY = signing_key.Key("alias/zmanim-verification", "reports of verifications", VERIFY)


def plan(
    clients: aws.Clients,
    environment: str,
    *,
    policies: Path,
    settings: Settings = DEFAULTS,
    connect: Callable[[str], aws.Clients] = aws.connect,
) -> list[Change]:
    """Return what is missing for `environment`, in the order in which it has to be made; changes nothing.

    `policies` is infrastructure/iam, `connect` makes the clients of the regions that images are copied to: instances
    run there as well. Roles are one for all regions. A region that they have already they keep, whatever the settings
    say now, for instances may run there. The network, and the workflows' roles where github_subject is there, are
    planned with the environment `verify`, where instances are launched by this project itself, in one region.
    With those roles it says what has to be set on GitHub.

    Raises `environment-invalid`, `bucket-not-ours`, `bucket-name-too-long`, `policies-invalid`, `policies-too-large`,
    aws's errors.
    """
    check_environment(environment)
    account, verifies, home = aws.account(clients), environment == VERIFY, clients.region
    steps = workflow_roles.STEPS if verifies and settings.github_subject else ()
    with aws.translate_errors(f"looking at what {environment} has"):
        names = [*roles.names(environment), *map(workflow_roles.name, steps)]
        chosen = [*dict.fromkeys([home, *settings.ami_regions])]
        if verifies:  # verification and what builds are in one region, whatever is copied elsewhere
            chosen = chosen[:1]
        kept = sorted(roles.regions(clients, names) - {*chosen})
        if kept:
            say(f"the roles of {environment} have rights in {', '.join(kept)} as well: they stay (docs/on-aws.md)")
        changes: list[Change] = []
        every: list[roles.Values] = []
        for region in (*chosen, *kept):
            there = clients if region == home else connect(region)
            used = [public_parameters.choose(there, settings, environment, account, kind) for kind in BUCKETS]
            reports = public_parameters.choose(there, settings, VERIFY, account, "releases")
            buckets_of = {f"{each.kind}_bucket": each.name for each in used} | {"verify_releases_bucket": reports.name}
            every.append(_values(settings, environment, account, region) | buckets_of)
            if region == home:
                changes += _in_region(there, settings, environment, account, used, watched=not verifies)
            elif region in chosen:
                # Nobody says that a machine serves there: alarms would go off at once.
                there_too = _in_region(there, settings, environment, account, used, watched=False)
                changes += [replace(each, resource=f"{each.resource} in {region}") for each in there_too]
        every.sort(key=lambda values: values["region"])  # the same from whichever region it is planned
        keys = [release_key.of(environment), *([VERIFICATION_KEY] if verifies else [])]
        changes += [each for key in keys for each in signing_key.plan(clients, key)]
        changes += roles.plan(clients, environment, policies, every)
        if verifies:
            changes += network.plan(clients, settings.subnet_id)
        if steps:
            changes += workflow_roles.plan(
                clients, account, policies, settings.github_subject, every, copies=settings.ami_regions
            )
            say("on GitHub, where nothing here can look: who may take the workflows' roles hangs on")
            for rule in github.rules(settings.github_subject):
                say(f"  - {rule}")
    return changes


def is_new(changes: Sequence[Change], environment: str) -> bool:
    """Tell by a plan whether the account has nothing of an environment yet: not even its machines' role."""
    return any((each.action, each.resource) == ("create", f"role {roles.name(environment)}") for each in changes)


def _values(settings: Settings, environment: str, account: str, region: str) -> dict[str, str]:
    return {
        "environment": environment,
        "account": account,
        "region": region,
        "parameters": settings.parameter_prefix,
        "mail_from": settings.mail_from,
        "mail_to": settings.mail_to,
        "every_releases_bucket": public_parameters.pattern(settings.releases_bucket),
    }


def _in_region(
    clients: aws.Clients,
    settings: Settings,
    environment: str,
    account: str,
    used: Sequence[public_parameters.Bucket],
    *,
    watched: bool,
) -> Iterator[Change]:
    verifies = environment == VERIFY
    yield from region_defaults.plan(clients, settings)
    for each in used:
        backups = each.kind == "backups"
        missing = yield from buckets.plan(clients, each.name, account, backups=backups, passing=verifies)
        # There, each machine has a repository of its own.
        if backups and not missing and not verifies:
            yield from public_parameters.plan_marker(clients, environment, each.name)
    yield from public_parameters.plan(clients, settings, environment, used)
    yield from _secrets(clients, environment)
    yield from alarms.plan(clients, settings, environment, account, watched=watched)


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
