"""Keeping the account and the pins in order."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta

from support.errors import BadInput
from support.progress import say
from zmanim_ami import toolchain
from zmanim_ami.commands.shared import ROOT, command, connect, connect_elsewhere, load_settings
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import sweep as sweeping
from zmanim_ami.pipeline.ami.sweep import Leftover
from zmanim_ami.pipeline.docs import page
from zmanim_ami.pipeline.pins import bump as bumping
from zmanim_ami.pipeline.pins import proposal
from zmanim_ami.pipeline.pins.bump import Bump
from zmanim_ami.pipeline.pins.look_ups import Index, LookUps
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.toolchain.environment import user_cache
from zmanim_ami.toolchain.go import go

# The workflow that a pull request has to pass.
_CHECKS = "verify.yml"


@command(
    "region",
    run="the run whose leftovers: the value of the tag zmanim:run (setting run)",
    older_than="instead of a run: what any run left that many days ago",
    apply="do it; without this only the plan is shown",
    keep_image="leave a finished image for its verification to be run again",
)
def sweep(
    settings: Settings, dry: bool, run: str = "", older_than: int = 0, apply: bool = False, keep_image: bool = False
) -> list[Leftover]:
    """Show what a run, or any run long ago, left in the account, and with --apply take it away.

    Only what carries the tag zmanim:run, with that value or for that long: instances, volumes, images that are not
    verified, snapshots, security groups, key pairs; in ami_regions, copies. A verified image stays with its copies, and
    one that is protected; with --keep-image one that is not verified yet does, too.
    """
    if bool(run) == (older_than > 0) or older_than < 0 or (keep_image and not run):
        raise BadInput(
            "no run was named" if not run else "a run and an age were named",
            expected="--run and the id of a run, or --older-than and a number of days",
            found=f"--run {run or '(nothing)'}, --older-than {older_than}{', --keep-image' if keep_image else ''}",
            fix="--run by-hand",
        )
    if run:
        scope = sweeping.Scope(load_settings(run=run).run)
    else:
        scope = sweeping.Scope("", datetime.now(UTC) - timedelta(days=older_than), settings.parameter_prefix)
    clients = connect(settings)
    leftovers = sweeping.plan(clients, scope, connect_elsewhere(settings), keep_image=keep_image)
    if apply and not dry:
        sweeping.apply(clients, leftovers, aws.poller(os.environ))
        say(f"{len(leftovers)} things taken away")
    return leftovers


@command("region", propose="commit it to the branch bump and open a pull request (needs gh)")
def bump(settings: Settings, dry: bool, propose: bool = False) -> list[Bump]:
    """Write newer pins into the tree: base, sources, the tools' Go modules, the Python packages.

    Changes files of this clone; --dry only shows them. Asks git hosts, Go's module proxy, PyPI, and AWS for Amazon's
    images; where Amazon Linux moves, both releases' repositories (setting advisories_url) for the security advisories
    that the newer one fixes. With --propose it commits them, pushes the branch `bump` and opens or renews its one pull
    request, which names these.
    """
    if propose and not dry:
        proposal.check_unchanged(ROOT)
    cache, today = user_cache(), datetime.now(UTC).date()
    look = LookUps(connect(settings), go(cache), cache)
    with toolchain.sources_of_tools(cache):
        bumps = bumping.bump(ROOT, look, today, write_page=page.write, dry=dry)
    fixed = bumping.fixes(bumps, settings.advisories_url)
    if fixed:
        say(fixed.text)
    if bumps and propose and not dry:
        checks = _CHECKS if os.environ.get("GITHUB_ACTIONS") else ""  # a person's own request starts them by itself
        proposal.propose(ROOT, "bump", "Take newer pins", bumping.as_markdown(bumps, fixed), checks=checks)
    return bumps


@command()
def lock() -> list[Bump]:
    """Lock the Python packages that pyproject.toml asks for, in the versions that are locked already where they fit.

    Changes the locks of this clone, and what wheels they have. Asks PyPI.
    """
    return bumping.lock(ROOT, Index())
