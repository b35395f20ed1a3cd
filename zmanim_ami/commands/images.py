"""The life of an image after its build: what there is, what was published, and going forth and back along that."""

from __future__ import annotations

from zmanim_ami.commands.shared import command, connect, connect_elsewhere
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.publish import history as publications
from zmanim_ami.pipeline.publish import publication, record
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse, refuse_test_image


@command("region")
def history(settings: Settings) -> list[publications.Publication]:
    """Show what was published when, and by whom, the newest first. Changes nothing.

    As far as Parameter Store remembers: a hundred publications.
    """
    clients = connect(settings)
    records = record.read_all(clients, settings.parameter_prefix)
    return [*reversed(publications.read(clients, settings.parameter_prefix, records))]


@command("region", "ami_regions")
def promote(settings: Settings, dry: bool, version: str = "") -> publication.Published | Plan:
    """Publish a version once more that was published before and is newer than what is now.

    In the account: the parameters ami-id and ami-version, in every region. --dry shows the plan.
    """
    wanted = parse(version)
    refuse_test_image(wanted)
    return publication.promote(connect(settings), settings, connect_elsewhere(settings), version=wanted, dry=dry)


@command("region", "ami_regions", to="an older version that was published; without it the one before what is now")
def rollback(settings: Settings, dry: bool, to: str = "") -> publication.Published | Plan:
    """Publish what was published before: production's next launch is of that image.

    In the account: the parameters ami-id and ami-version, in every region. Machines that run stay what they are. Said
    twice it goes back once; further back goes --to. --dry shows the plan.
    """
    wanted = parse(to) if to else None
    refuse_test_image(wanted)
    return publication.roll_back(connect(settings), settings, connect_elsewhere(settings), to=wanted, dry=dry)
