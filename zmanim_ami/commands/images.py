"""The life of an image after its build: what there is, what was published, and going forth and back along that."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from support.errors import Error
from support.files import write_atomically
from support.output import show as show_result
from support.progress import say
from zmanim_ami import toolchain
from zmanim_ami.commands.shared import command, connect, connect_elsewhere
from zmanim_ami.pipeline.advisories import golang
from zmanim_ami.pipeline.images import advisories as now
from zmanim_ami.pipeline.images import bom, listing
from zmanim_ami.pipeline.images import check as checking
from zmanim_ami.pipeline.images import diff as diffs
from zmanim_ami.pipeline.images.retire import Retirement, Row
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.publish import history as publications
from zmanim_ami.pipeline.publish import publication, record
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import parse, refuse_test_image
from zmanim_ami.toolchain.environment import user_cache


@command("region", "ami_regions", only_reads=True)
def list_images(settings: Settings) -> list[listing.Listed]:
    """Show every image of ours: version, age, whether it is published or was, who uses it, what it costs.

    Changes nothing. The cost is the most that its snapshots and its copies' can cost in a month.
    """
    return listing.listed(connect(settings), connect_elsewhere(settings), settings)


@command("region", "ami_regions", only_reads=True)
def show(settings: Settings, version: str = "") -> listing.Shown:
    """Show all that is known of the image of a version: where it is, what it is made from, when it was published.

    Changes nothing.
    """
    wanted = parse(version)
    return listing.shown(connect(settings), connect_elsewhere(settings), settings, wanted)


@command("region", only_reads=True)
def advisories(settings: Settings, version: str = "", json: bool = False) -> None:
    """Print which security advisories are open today for the published image, or that of a version, as Markdown.

    Compares the kept inventory with the advisories of Amazon Linux's newest release (setting advisories_url), and by
    govulncheck the API's modules with Go's vulnerability database. Exit code 1 when one is open that is critical,
    important, or rated by nobody. Changes nothing.
    """
    clients = connect(settings)
    wanted = parse(version) if version else now.published(clients, settings)
    ask = golang.govulncheck(partial(toolchain.program, user_cache(), "govulncheck"))
    result = now.look(clients, settings, wanted, ask)
    if json:
        show_result(result, as_json=True)
    else:
        sys.stdout.write(now.markdown(result))
    if result.grave:
        raise Error(
            f"the image of {result.version} lacks security updates",
            code="advisories-open",
            expected=f"none open that is {' or '.join(now.GRAVE)}",
            found=", ".join(f"{each.id} ({each.severity})" for each in result.open if each.severity in now.GRAVE),
            fix="./inv bump takes the newest release and Go, Dependabot the API's modules; then build and verify",
        )


@command("region", output="a file to write it to; --json prints it")
def sbom(settings: Settings, version: str = "", output: str = "", json: bool = False) -> None:
    """Show what is inside the image of a version, and with --json or --output give its SBOM, as CycloneDX has it.

    The one that the image's tag zmanim:sbom names, or none. Changes nothing in the account.
    """
    found = bom.find(connect(settings), parse(version))
    if output:
        write_atomically(Path(output), found.document.decode())
        say(f"written: {output}")
    if json:
        sys.stdout.write(found.document.decode())
    else:
        show_result(found, as_json=False)


@command("region", only_reads=True, against="the version to compare with; without it the published one")
def diff(settings: Settings, version: str = "", against: str = "", json: bool = False) -> None:
    """Print how the image of a version differs from another one, as Markdown: packages, files, units, ports, size.

    From what was kept of both, images that are gone as well. Changes nothing.
    """
    after, before = parse(version), parse(against) if against else None
    result = diffs.diff(connect(settings), settings, after, before)
    if json:
        show_result(result, as_json=True)
    else:
        sys.stdout.write(diffs.markdown(result))


@command("region", "ami_regions", only_reads=True)
def check(settings: Settings, json: bool = False) -> None:
    """Check that what is published is what was meant: parameters, record, images, copies and report, in every region.

    Changes nothing. Exit code 1 when something is not as it has to be.
    """
    found = checking.check(connect(settings), connect_elsewhere(settings), settings)
    show_result(found, json)
    wrong = [each for each in found if not each.ok]
    if wrong:
        raise Error(
            "what is published is not what was meant",
            code="not-as-published",
            expected=f"{len(found)} checks to pass",
            found="; ".join(f"{each.name}: {each.found}" for each in wrong),
            fix="image.promote, image.rollback or publish-ssm of the version that is meant does what is missing",
        )


@command(
    *("region", "ami_regions", "retire_keep", "retire_publications", "retire_days", "retire_step_days", "retire_limit"),
    apply="do it; without this only the plan is shown",
)
def retire(settings: Settings, dry: bool, apply: bool = False) -> list[Row]:
    """Show which images may go, with one reason for each, and with --apply make the next step of those.

    An image is deprecated, later disabled, later deregistered with its copies and snapshots. Kept are the newest, what
    is published or was lately, used, shared, young, protected by somebody else, tagged zmanim:keep, or not ours. In the
    account: the images' tag zmanim:retiring, and those steps. Each is looked at again before.
    """
    retirement = Retirement(connect(settings), connect_elsewhere(settings), settings)
    rows = retirement.plan()
    if apply and not dry:
        done = retirement.apply(rows)
        say(f"{len(done)} of {len(rows)} images changed")
        return done
    return rows


@command("region", only_reads=True)
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
