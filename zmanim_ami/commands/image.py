"""The release of an image: build, verify, publish."""

from __future__ import annotations

import os
import sys

from invoke.context import Context

from support.cache import user_cache
from support.output import show
from support.progress import say
from zmanim_ami import toolchain
from zmanim_ami.commands.shared import JSON, REGION, ROOT, VERSION, command, connect, load_settings
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import binary, packer, provenance, tag
from zmanim_ami.pipeline.ami import build as building
from zmanim_ami.pipeline.ami.builder import workshop
from zmanim_ami.pipeline.publish import parameters as publishing
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import summary
from zmanim_ami.pipeline.verify import verification as verifying
from zmanim_ami.pipeline.version import Version, parse
from zmanim_ami.toolchain.go import go


@command(**VERSION, api_dir="source tree of the API (setting api_dir)", **JSON)
def build_binary(_context: Context, version: str = "", api_dir: str = "", json: bool = False) -> None:
    """Build the API for linux/arm64, with its migrations, into build/bundle/VERSION.

    Changes nothing outside build/. Does nothing when nothing has changed.
    """
    show(bundle(load_settings(api_dir=api_dir), parse(version)), json)


@command()
def validate(_context: Context) -> None:
    """Check the Packer template as it stands: format, init, validate. Asks no cloud, changes nothing."""
    packer.validate(ROOT, toolchain.environment(toolchain.tools(user_cache()), os.environ))
    say("the template is valid")


@command(
    **VERSION,
    replace="give up an image of this name that is neither verified nor published",
    api_dir="source tree of the API (setting api_dir)",
    source_ami_id="build from exactly this image (setting source_ami_id)",
    instance_type="instance type of the builder (setting instance_type)",
    postgresql_repo="whose PostgreSQL: amazonlinux or pgdg (setting postgresql_repo)",
    package_cache="--no-package-cache compiles everything anew instead of using what earlier builds compiled",
    **REGION,
    **JSON,
)
def build_ami(
    context: Context,
    version: str = "",
    replace: bool = False,
    api_dir: str = "",
    source_ami_id: str = "",
    instance_type: str = "",
    postgresql_repo: str = "",
    package_cache: bool = True,
    region: str = "",
    json: bool = False,
) -> None:
    """Build the image zmanim-VERSION with Packer, or reuse the equal one that exists.

    In the account: a builder, key pair and security group that go away again; the image and its snapshot, which stay.
    Builds the API's binary and validates the template first. --dry shows the plan.
    """
    chosen = load_settings(
        api_dir=api_dir,
        source_ami_id=source_ami_id,
        instance_type=instance_type,
        postgresql_repo=postgresql_repo,
        region=region,
    )
    wanted = parse(version)
    result = building.build_ami(
        connect(chosen),
        chosen,
        wanted,
        root=ROOT,
        cache=user_cache(),
        workshop=workshop(ROOT, user_cache(), os.environ, lambda each: bundle(chosen, each).directory),
        replace=replace,
        package_cache=package_cache,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(**VERSION, ami_id="verify exactly this image instead of a version's", **REGION, **JSON)
def verify_ami(context: Context, version: str = "", ami_id: str = "", region: str = "", json: bool = False) -> None:
    """Launch one instance of an image, wait until it says it is ready, check what it runs, and tag the image.

    In the account: an instance with a data volume that go away again; the image's tag zmanim:verified, which
    publish-ssm asks for. --dry shows the plan.
    """
    chosen = load_settings(region=region)
    wanted = parse(version) if version or not ami_id else None
    result = verifying.verify_ami(
        connect(chosen),
        chosen,
        root=ROOT,
        pace=aws.pace(os.environ),
        version=wanted,
        ami_id=ami_id,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(**VERSION, ami_id="publish exactly this image instead of a version's", **REGION, **JSON)
def publish_ssm(context: Context, version: str = "", ami_id: str = "", region: str = "", json: bool = False) -> None:
    """Write a verified image's id and version to SSM; does nothing when they stand there already.

    In the account: the parameters ami-id and ami-version below the setting parameter_prefix. Refuses an image that is
    not verified, not available, not this account's, or a trial; nothing overrides that. --dry shows the plan.
    """
    chosen = load_settings(region=region)
    wanted = parse(version) if version or not ami_id else None
    publishing.refuse_trial(wanted)  # before anybody is asked who we are
    result = publishing.publish(
        connect(chosen),
        chosen,
        pace=aws.pace(os.environ),
        version=wanted,
        ami_id=ami_id,
        dry=context.config.run.dry,
    )
    show(result, json)


@command(ref="what is checked out: refs/tags/v1.2.3-ami, or a branch", **VERSION, **JSON)
def check_tag(_context: Context, ref: str = "", version: str = "", json: bool = False) -> None:
    """Check that what is checked out may become a release: the tag is its version's, the commit is on main.

    Asks nobody, changes nothing.
    """
    show(tag.check(ROOT, ref, parse(version)), json)


@command(**VERSION, **REGION, **JSON)
def verification(_context: Context, version: str = "", region: str = "", json: bool = False) -> None:
    """Print what verify-ami found on this machine, as Markdown: the image, its boot times, its checks, its packages.

    Compares the packages with those of the image that is published now; changes nothing.
    """
    chosen = load_settings(region=region)
    found = summary.summary(connect(chosen), chosen, ROOT, parse(version))
    if json:
        show(found, as_json=True)
    else:
        sys.stdout.write(summary.markdown(found))


def bundle(chosen: Settings, version: Version) -> binary.Bundle:
    """Build the API's release bundle of a version, or find the equal one."""
    made_by = go(user_cache())
    return binary.build(
        ROOT / chosen.api_dir, str(version), provenance.commit(ROOT), ROOT / "build" / "bundle", made_by
    )
