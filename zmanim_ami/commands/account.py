"""What an AWS account needs."""

from __future__ import annotations

from zmanim_ami.commands.shared import POLICIES, command, connect
from zmanim_ami.pipeline.account import changes, requirements
from zmanim_ami.pipeline.account.workflow_roles import Workflows
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings


@command("region")
def plan(settings: Settings, environment: str = "prod") -> list[changes.Change]:
    """Show what an account still needs for an environment: buckets, secrets, roles, alarms. Changes nothing."""
    return _plan(connect(settings), settings, environment)


@command("region")
def apply(settings: Settings, dry: bool, environment: str = "prod") -> list[changes.Change]:
    """Make what account.plan shows, and nothing else. Safe to run twice; --dry is account.plan."""
    clients = connect(settings)
    planned = _plan(clients, settings, environment)
    if not dry:
        changes.apply(planned)
        changes.settle(clients, planned, lambda: _plan(clients, settings, environment))
    return planned


def _plan(clients: Clients, settings: Settings, environment: str) -> list[changes.Change]:
    subject = settings.github_subject
    workflows = Workflows(subject, settings.parameter_prefix, settings.ami_regions) if subject else None
    return requirements.plan(
        clients,
        environment,
        policies=POLICIES,
        subnet_id=settings.subnet_id,
        workflows=workflows,
        settings=settings,
    )
