"""Keeping the account and the pins in order."""

from __future__ import annotations

import os

from invoke.context import Context

from support.cache import user_cache
from support.errors import BadInput
from support.output import show
from support.process import run
from support.progress import say
from zmanim_ami.commands.shared import JSON, REGION, ROOT, command, connect, load_settings
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import sweep as sweeping
from zmanim_ami.pipeline.pins import bump as bumping
from zmanim_ami.pipeline.pins import proposal
from zmanim_ami.pipeline.pins.lookups import look_ups
from zmanim_ami.toolchain.go import go


@command(
    run="the run whose leftovers: the value of the tag zmanim:run (setting run)",
    apply="do it; without this only the plan is shown",
    **REGION,
    **JSON,
)
def sweep(context: Context, run: str = "", apply: bool = False, region: str = "", json: bool = False) -> None:
    """Show what a run left in the account, and with --apply take it away.

    Only what carries the tag zmanim:run with that value: instances, volumes, images that are not verified, snapshots,
    security groups, key pairs. A verified image stays.
    """
    if not run:
        raise BadInput("no run was named", expected="--run and the id of a run", found="nothing", fix="--run by-hand")
    chosen = load_settings(region=region, run=run)
    clients = connect(chosen)
    found = sweeping.plan(clients, chosen.run)
    if apply and not context.config.run.dry:
        sweeping.apply(clients, found, aws.pace(os.environ))
        say(f"{len(found)} things taken away")
    show(found, json)


@command(propose="commit it to the branch bump and open a pull request (needs gh)", **REGION, **JSON)
def bump(context: Context, propose: bool = False, region: str = "", json: bool = False) -> None:
    """Write newer pins into the tree: base, sources, Packer and its plugin, restic, the workflows' actions.

    Changes files of this clone; --dry only shows them. Asks git hosts, Go's module proxy, and AWS for Amazon's images.
    With --propose it commits them, pushes the branch `bump` and opens or renews its one pull request.
    """
    chosen = load_settings(region=region)
    dry = context.config.run.dry
    if propose and not dry:
        proposal.check_unchanged(ROOT, run)
    found = bumping.bump(ROOT, look_ups(connect(chosen), go(user_cache())), dry=dry)
    if found and propose and not dry:
        proposal.propose(ROOT, "bump", "Take newer pins", bumping.words(found), run)
    show(found, json)
