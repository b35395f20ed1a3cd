"""The instances that run an image: which there are and how they do, launching one, and swapping one for the next."""

from __future__ import annotations

import os

from zmanim_ami.commands.shared import command, connect
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.requirements import check_environment
from zmanim_ami.pipeline.instances import launch as launching
from zmanim_ami.pipeline.instances import listing
from zmanim_ami.pipeline.instances import swap as swapping
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse


@command("region", only_reads=True)
def list_instances(settings: Settings, environment: str = "prod") -> list[listing.Listed]:
    """Show every instance of an environment: image, release of the API, ready or why not, last backup, disk, behind.

    Changes nothing. Each one that runs is asked by Run Command.
    """
    check_environment(environment)
    return listing.listed(connect(settings), settings, environment, aws.poller(os.environ))


@command(
    "region",
    version="the version to launch (default: the published one)",
    subnet="the subnet, which decides the zone",
    security_group="who may reach it: a security group, or several with commas between",
    instance_type="the instance type (Graviton)",
    address="public, private, or subnet: as the subnet has it. Without a public one it needs another way out to AWS",
    volume="a data volume that is there (default: a new one)",
    size="the size of a new data volume, in GiB",
    another="launch one although the environment has one",
    wait="wait until it says whether it serves",
)
def launch(
    settings: Settings,
    dry: bool,
    version: str = "",
    environment: str = "prod",
    subnet: str = "",
    security_group: str = "",
    instance_type: str = "m7g.medium",
    address: str = "public",
    volume: str = "",
    size: int = 20,
    another: bool = False,
    wait: bool = False,
) -> launching.Launched | Plan:
    """Launch an instance of a verified image, with the options that the image is made for.

    In the account: an instance and its data volume, which both stay. --dry shows the plan.
    """
    check_environment(environment)
    wanted = launching.Wanted(
        environment=environment,
        instance_type=instance_type,
        subnet_id=subnet,
        security_group_ids=tuple(each.strip() for each in security_group.split(",") if each.strip()),
        address=address,
        volume=volume,
        volume_gib=size,
        another=another,
    )
    chosen = parse(version) if version else None
    return launching.launch(
        connect(settings), settings, wanted, poller=aws.poller(os.environ), version=chosen, wait=wait, dry=dry
    )


@command(
    "region",
    to="the version that takes the instance's place",
    instance="the instance's id (default: the only one that runs in the environment)",
    new_address="yes, clients will find it at another address: it has no Elastic IP address that moves",
)
def swap(
    settings: Settings,
    dry: bool,
    to: str = "",
    environment: str = "prod",
    instance: str = "",
    new_address: bool = False,
) -> swapping.Swapped | Plan:
    """Put a new instance in the place of one that runs, with its data volume and its address.

    In the account: a backup, an instance, a snapshot of the volume; the volume and the Elastic IP address move; the old
    instance stays, stopped and protected. What fails before the address moves is taken back; cut short, the same
    command finishes it or takes it back. --dry shows the checks and the plan.
    """
    check_environment(environment)
    return swapping.swap(
        connect(settings),
        settings,
        to=parse(to),
        poller=aws.poller(os.environ),
        environment=environment,
        instance_id=instance,
        new_address=new_address,
        dry=dry,
    )
