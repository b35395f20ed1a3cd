"""What an AWS account needs."""

from __future__ import annotations

from functools import partial

from support.progress import say
from zmanim_ami.commands.shared import POLICIES, command, connect
from zmanim_ami.pipeline.account import changes, requirements
from zmanim_ami.pipeline.settings import Settings


@command("region", only_reads=True)
def plan(settings: Settings, environment: str = "prod") -> list[changes.Change]:
    """Show what an account still needs for an environment: buckets, secrets, roles, alarms. Changes nothing."""
    planned = requirements.plan(connect(settings), environment, policies=POLICIES, settings=settings)
    _say_when_new(planned, environment)
    return planned


@command("region")
def apply(settings: Settings, dry: bool, environment: str = "prod") -> list[changes.Change]:
    """Make what account.plan shows, and nothing else. Safe to run twice; --dry is account.plan."""
    clients = connect(settings)
    plan = partial(requirements.plan, clients, environment, policies=POLICIES, settings=settings)
    planned = plan()
    _say_when_new(planned, environment)
    if not dry:
        changes.apply(planned)
        changes.settle(clients, planned, plan)
    return planned


def _say_when_new(planned: list[changes.Change], environment: str) -> None:
    if requirements.is_new(planned, environment):
        say(f"{environment} is a new environment: this account has nothing of one of that name yet")
