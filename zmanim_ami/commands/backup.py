"""The backups of a running instance, and whether a machine can be had back from them."""

from __future__ import annotations

import os

from invoke.context import Context

from support.errors import BadInput
from support.output import show
from zmanim_ami.commands.shared import JSON, REGION, VERSION, command, connect, load_settings
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.backup import drill as recovery
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.version import parse

INSTANCE = {
    "instance": "the instance's id (default: the only one that runs in the environment)",
    "environment": "prod, verify, …",
}


@command(**INSTANCE, **REGION, **JSON)
def now(context: Context, instance: str = "", environment: str = "prod", region: str = "", json: bool = False) -> None:
    """Make a backup of an instance now, by the unit that the nightly timer starts.

    In the account: snapshots in the environment's bucket; runs that retention no longer needs go. --dry shows the plan.
    """
    clients = connect(load_settings(region=region))
    chosen = remote.instance(clients, environment, instance)
    if context.config.run.dry:
        show(Plan((Step("start", f"restic-backup.service on {chosen}", "a complete run in its repository"),)), json)
        return
    show(remote.make(clients, chosen, aws.pace(os.environ)), json)


@command(**INSTANCE, **REGION, **JSON)
def list_runs(
    _context: Context, instance: str = "", environment: str = "prod", region: str = "", json: bool = False
) -> None:
    """List the runs in an instance's repository, the newest first. Changes nothing."""
    clients = connect(load_settings(region=region))
    show(remote.listed(clients, remote.instance(clients, environment, instance), aws.pace(os.environ)), json)


@command(**INSTANCE, **REGION, **JSON)
def drill(
    context: Context, instance: str = "", environment: str = "prod", region: str = "", json: bool = False
) -> None:
    """Restore the newest backup on an instance, beside what is live, and compare it with its record.

    In the account: two metrics, RestoreDrillSeconds and RestoreDrillDataAge. --dry shows the plan.
    """
    clients = connect(load_settings(region=region))
    chosen = remote.instance(clients, environment, instance)
    if context.config.run.dry:
        show(Plan((Step("start", f"backup-drill.service on {chosen}", "restores beside what is live"),)), json)
        return
    show(remote.drill(clients, chosen, aws.pace(os.environ)), json)


@command(
    run="the run's id, as backup.list shows it",
    replace="put it in the place of the instance's data; the API is stopped for that, and the old data is kept aside",
    yes="with --replace: yes, the instance's data gives way",
    **INSTANCE,
    **REGION,
    **JSON,
)
def restore(
    context: Context,
    run: str = "",
    replace: bool = False,
    yes: bool = False,
    instance: str = "",
    environment: str = "prod",
    region: str = "",
    json: bool = False,
) -> None:
    """Restore a run on an instance and compare it with its record: beside what is live, or in its place.

    In the account: nothing. On the instance: nothing that is live, unless --replace --yes. --dry shows the plan.
    """
    remote.check_run(run)
    if replace and not yes:
        raise BadInput("--replace takes the instance's data out of service", expected="--yes as well", found="no --yes")
    clients = connect(load_settings(region=region))
    chosen = remote.instance(clients, environment, instance)
    if context.config.run.dry:
        where = "in the place of its data, which is kept aside" if replace else "beside what is live"
        show(Plan((Step("restore", f"run {run} on {chosen}", where),)), json)
        return
    show(remote.restore(clients, chosen, run, replace=replace, pace=aws.pace(os.environ)), json)


@command(**INSTANCE, **REGION, **JSON)
def adopt(
    context: Context, instance: str = "", environment: str = "prod", region: str = "", json: bool = False
) -> None:
    """Let an instance go on with the backups of another one, after a restore or with a new database.

    In the account: a mark in the environment's repository; from then on the other one's backups are refused. --dry
    shows the plan.
    """
    clients = connect(load_settings(region=region))
    chosen = remote.instance(clients, environment, instance)
    if context.config.run.dry:
        show(
            Plan((Step("adopt", f"the backups of {environment} for {chosen}", "any other machine's are refused"),)),
            json,
        )
        return
    show(remote.adopt(clients, chosen, aws.pace(os.environ)), json)


@command(
    **VERSION,
    ami_id="use exactly this image instead of a version's",
    environment="whose backups are restored",
    **REGION,
    **JSON,
)
def recovery_drill(
    context: Context,
    version: str = "",
    ami_id: str = "",
    environment: str = "prod",
    region: str = "",
    json: bool = False,
) -> None:
    """Launch an image with an empty volume, restore the newest backup into it, and time it until it serves.

    In the account: an instance with a data volume that go away again; the backups are only read. --dry shows the plan.
    """
    chosen = load_settings(region=region)
    wanted = parse(version) if version or not ami_id else None
    result = recovery.recovery_drill(
        connect(chosen),
        chosen,
        pace=aws.pace(os.environ),
        environment=environment,
        version=wanted,
        ami_id=ami_id,
        dry=context.config.run.dry,
    )
    show(result, json)
