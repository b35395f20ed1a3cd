"""The backups of a running instance, and whether a machine can be had back from them."""

from __future__ import annotations

import os

from support.errors import BadInput
from zmanim_ami.commands.shared import command, connect, version_unless_id
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.backup import drill as recovery
from zmanim_ami.pipeline.backup import remote
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.settings import Settings

_INSTANCE = "the instance's id (default: the only one that runs in the environment)"


@command("region", instance=_INSTANCE)
def now(settings: Settings, dry: bool, instance: str = "", environment: str = "prod") -> remote.BackupRun | Plan:
    """Make a backup of an instance now, by the unit that the nightly timer starts.

    In the account: snapshots in the environment's bucket; runs that retention no longer needs go. --dry shows the plan.
    """
    clients = connect(settings)
    target = remote.instance(clients, environment, instance)
    if dry:
        return Plan((Step("start", f"restic-backup.service on {target}", "a complete run in its repository"),))
    return remote.make(clients, target, aws.poller(os.environ))


@command("region", only_reads=True, instance=_INSTANCE)
def list_runs(settings: Settings, instance: str = "", environment: str = "prod") -> list[remote.BackupRun]:
    """List the runs in an instance's repository, the newest first. Changes nothing."""
    clients = connect(settings)
    return remote.listed(clients, remote.instance(clients, environment, instance), aws.poller(os.environ))


@command("region", instance=_INSTANCE)
def drill(settings: Settings, dry: bool, instance: str = "", environment: str = "prod") -> remote.Restored | Plan:
    """Restore the newest backup on an instance, beside what is live, and compare it with its record.

    In the account: two metrics, RestoreDrillSeconds and RestoreDrillDataAge. --dry shows the plan.
    """
    clients = connect(settings)
    target = remote.instance(clients, environment, instance)
    if dry:
        return Plan((Step("start", f"backup-drill.service on {target}", "restores beside what is live"),))
    return remote.drill(clients, target, aws.poller(os.environ))


@command(
    "region",
    run="the run's id, as backup.list shows it",
    replace="put it in the place of the instance's data; the API is stopped for that, and the old data is kept aside",
    yes="with --replace: yes, the instance's data gives way",
    instance=_INSTANCE,
)
def restore(
    settings: Settings,
    dry: bool,
    run: str = "",
    replace: bool = False,
    yes: bool = False,
    instance: str = "",
    environment: str = "prod",
) -> remote.Restored | Plan:
    """Restore a run on an instance and compare it with its record: beside what is live, or in its place.

    In the account: nothing. On the instance: nothing that is live, unless --replace --yes. --dry shows the plan.
    """
    remote.check_run(run)
    if replace and not yes:
        raise BadInput("--replace takes the instance's data out of service", expected="--yes as well", found="no --yes")
    clients = connect(settings)
    target = remote.instance(clients, environment, instance)
    if dry:
        where = "in the place of its data, which is kept aside" if replace else "beside what is live"
        return Plan((Step("restore", f"run {run} on {target}", where),))
    return remote.restore(clients, target, run, replace=replace, poller=aws.poller(os.environ))


@command("region", instance=_INSTANCE)
def adopt(settings: Settings, dry: bool, instance: str = "", environment: str = "prod") -> remote.Adopted | Plan:
    """Let an instance go on with the backups of another one, after a restore or with a new database.

    In the account: a mark in the environment's repository; from then on the other one's backups are refused. --dry
    shows the plan.
    """
    clients = connect(settings)
    target = remote.instance(clients, environment, instance)
    if dry:
        return Plan((Step("adopt", f"the backups of {environment} for {target}", "any other machine's are refused"),))
    return remote.adopt(clients, target, aws.poller(os.environ))


@command("region", environment="whose backups are restored")
def recovery_drill(
    settings: Settings, dry: bool, version: str = "", ami_id: str = "", environment: str = "prod"
) -> recovery.Recovery | Plan:
    """Launch an image with an empty volume, restore the newest backup into it, and time it until it serves.

    In the account: an instance with a data volume that go away again; the backups are only read. --dry shows the plan.
    """
    wanted = version_unless_id(version, ami_id)
    return recovery.recovery_drill(
        connect(settings),
        settings,
        poller=aws.poller(os.environ),
        environment=environment,
        version=wanted,
        ami_id=ami_id,
        dry=dry,
    )
