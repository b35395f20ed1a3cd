"""What an AWS account needs."""

from __future__ import annotations

from invoke.context import Context

from support.output import show
from zmanim_ami.commands.shared import JSON, POLICIES, REGION, command, connect, load_settings
from zmanim_ami.pipeline.account import requirements
from zmanim_ami.pipeline.account.workflow_roles import Workflows
from zmanim_ami.pipeline.aws import Clients
from zmanim_ami.pipeline.settings import Settings


@command(environment="prod, verify, …", **REGION, **JSON)
def plan(_context: Context, environment: str = "prod", region: str = "", json: bool = False) -> None:
    """Show what an account still needs for an environment: buckets, secrets, roles, network. Changes nothing."""
    chosen = load_settings(region=region)
    show(_plan(connect(chosen), chosen, environment), json)


@command(environment="prod, verify, …", **REGION, **JSON)
def apply(context: Context, environment: str = "prod", region: str = "", json: bool = False) -> None:
    """Make what account.plan shows, and nothing else. Safe to run twice; --dry is account.plan."""
    chosen = load_settings(region=region)
    clients = connect(chosen)
    changes = _plan(clients, chosen, environment)
    if not context.config.run.dry:
        requirements.apply(clients, changes)
    show(changes, json)


def _plan(clients: Clients, chosen: Settings, environment: str) -> list[requirements.Change]:
    subject = chosen.github_subject
    workflows = Workflows(subject, chosen.parameter_prefix) if subject else None
    return requirements.plan(clients, environment, policies=POLICIES, subnet_id=chosen.subnet_id, workflows=workflows)
