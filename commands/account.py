"""What an AWS account needs."""

from __future__ import annotations

from invoke.context import Context

from commands.shared import JSON, POLICIES, REGION, command, connect, load_settings
from pipeline import account
from pipeline.aws import Clients
from pipeline.settings import Settings
from pipeline.workflow_roles import Workflows
from support.output import show


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
        account.apply(clients, changes)
    show(changes, json)


def _plan(clients: Clients, chosen: Settings, environment: str) -> list[account.Change]:
    subject = chosen.github_subject
    workflows = Workflows(subject, chosen.parameter_prefix) if subject else None
    return account.plan(clients, environment, policies=POLICIES, subnet_id=chosen.subnet_id, workflows=workflows)
