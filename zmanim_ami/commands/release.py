"""The releases of the API, by an environment's channel."""

from __future__ import annotations

from zmanim_ami.commands.image import bundle
from zmanim_ami.commands.shared import command, connect
from zmanim_ami.pipeline.account.requirements import check_environment
from zmanim_ami.pipeline.channel import releases as releasing
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse, refuse_test_image

_ENVIRONMENT = "prod, verify, …: whose instances are meant"
_EXPIRES = "days after which no instance adopts it any more; what runs goes on"


@command(
    *("api_dir", "region"),
    environment=_ENVIRONMENT,
    oldest_allowed="no instance may go back behind this version (default: as the channel says already)",
    expires_days=_EXPIRES,
)
def publish(
    settings: Settings,
    dry: bool,
    version: str = "",
    environment: str = "prod",
    oldest_allowed: str = "",
    expires_days: int = releasing.EXPIRES_DAYS,
) -> releasing.Moved | Plan:
    """Publish a release of the API to an environment's channel: its instances run it from their API's next start.

    In the account: the bundle and its signed record in the environment's bucket for releases, then the channel's
    signed pointer; the KMS key alias/zmanim-release-ENVIRONMENT signs. Builds the bundle first. --dry shows the plan.
    """
    wanted, oldest = parse(version), parse(oldest_allowed) if oldest_allowed else None
    # Before anything is built or anybody asked.
    refuse_test_image(wanted)
    check_environment(environment)
    return releasing.publish(
        connect(settings),
        environment,
        wanted,
        bundle(settings, wanted).directory,
        oldest_allowed=oldest,
        expires_days=expires_days,
        dry=dry,
    )


@command(
    "region",
    to="the version to go back to; it was published before",
    environment=_ENVIRONMENT,
    expires_days=_EXPIRES,
)
def rollback(
    settings: Settings,
    dry: bool,
    to: str = "",
    environment: str = "prod",
    expires_days: int = releasing.EXPIRES_DAYS,
) -> releasing.Moved | Plan:
    """Point an environment's channel back at a release that was published before; the database stays as it is.

    In the account: the channel's signed pointer, with a new serial. Refuses what is older than the channel's
    oldest_allowed. --dry shows the plan.
    """
    wanted = parse(to)
    refuse_test_image(wanted)
    check_environment(environment)
    return releasing.rollback(connect(settings), environment, wanted, expires_days=expires_days, dry=dry)
