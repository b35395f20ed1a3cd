"""The releases of the API, by an environment's channel."""

from __future__ import annotations

from invoke.context import Context

from support.output import show
from zmanim_ami.commands.image import bundle
from zmanim_ami.commands.shared import JSON, REGION, VERSION, command, connect, load_settings
from zmanim_ami.pipeline.account.requirements import check_environment
from zmanim_ami.pipeline.channel import releases as releasing
from zmanim_ami.pipeline.publish.parameters import refuse_trial
from zmanim_ami.pipeline.version import parse

WHERE = {
    "environment": "prod, verify, …: whose instances are meant",
    "expires_days": "days after which no instance adopts it any more; what runs goes on",
}


@command(
    **VERSION,
    **WHERE,
    oldest_allowed="no instance may go back behind this version (default: as the channel says already)",
    api_dir="source tree of the API (setting api_dir)",
    **REGION,
    **JSON,
)
def publish(
    context: Context,
    version: str = "",
    environment: str = "prod",
    oldest_allowed: str = "",
    expires_days: int = releasing.EXPIRES_DAYS,
    api_dir: str = "",
    region: str = "",
    json: bool = False,
) -> None:
    """Publish a release of the API to an environment's channel: its instances run it from their API's next start.

    In the account: the bundle and its signed record in the bucket zmanim-releases-ENVIRONMENT, then the channel's
    signed pointer; the KMS key alias/zmanim-release-ENVIRONMENT signs. Builds the bundle first. --dry shows the plan.
    """
    chosen = load_settings(api_dir=api_dir, region=region)
    wanted, oldest = parse(version), parse(oldest_allowed) if oldest_allowed else None
    # Before anything is built or anybody asked.
    refuse_trial(wanted)
    check_environment(environment)
    clients = connect(chosen)
    result = releasing.publish(
        clients,
        environment,
        wanted,
        bundle(chosen, wanted).directory,
        oldest_allowed=oldest,
        expires_days=expires_days,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(to="the version to go back to; it was published before", **WHERE, **REGION, **JSON)
def rollback(
    context: Context,
    to: str = "",
    environment: str = "prod",
    expires_days: int = releasing.EXPIRES_DAYS,
    region: str = "",
    json: bool = False,
) -> None:
    """Point an environment's channel back at a release that was published before; the database stays as it is.

    In the account: the channel's signed pointer, with a new serial. Refuses what is older than the channel's
    oldest_allowed. --dry shows the plan.
    """
    chosen = load_settings(region=region)
    wanted = parse(to)
    refuse_trial(wanted)
    check_environment(environment)
    result = releasing.rollback(
        connect(chosen), environment, wanted, expires_days=expires_days, dry=context.config.run.dry
    )
    show(result, json)
