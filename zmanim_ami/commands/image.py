"""The release of an image: build, verify, publish."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

from support.output import show
from support.progress import say
from zmanim_ami import toolchain
from zmanim_ami.commands.shared import ROOT, command, connect, connect_elsewhere, version_unless_id
from zmanim_ami.evidence import account as inside
from zmanim_ami.evidence import make
from zmanim_ami.pipeline import aws, programs
from zmanim_ami.pipeline.ami import binary, packer, provenance, tag
from zmanim_ami.pipeline.ami import build as building
from zmanim_ami.pipeline.ami.builder import BuildTools
from zmanim_ami.pipeline.plan import Plan
from zmanim_ami.pipeline.publish import publication
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.verify import summary
from zmanim_ami.pipeline.verify import verification as verifying
from zmanim_ami.pipeline.version import Version, parse, refuse_test_image
from zmanim_ami.toolchain.environment import user_cache
from zmanim_ami.toolchain.go import go


@command("api_dir")
def build_binary(settings: Settings, version: str = "") -> binary.Bundle:
    """Build the API for linux/arm64 (what the versions file says), with its migrations, into build/bundle/VERSION.

    Changes nothing outside build/. Does nothing when nothing has changed.
    """
    return bundle(settings, parse(version))


@command(only_reads=True)
def validate() -> None:
    """Check the Packer template as it stands: format, init, validate. Asks no cloud, changes nothing."""
    packer.validate(ROOT, toolchain.environment(toolchain.tools(user_cache()), os.environ))
    say("the template is valid")


@command(
    *("api_dir", "source_ami_id", "instance_type", "postgresql_repo", "region"),
    replace="give up an image of this name that is neither verified nor published",
    package_cache="--no-package-cache compiles everything anew instead of using what earlier builds compiled",
)
def build_ami(
    settings: Settings, dry: bool, version: str = "", replace: bool = False, package_cache: bool = True
) -> building.BuildResult | Plan:
    """Build the image zmanim-VERSION with Packer, or reuse the equal one that exists.

    In the account: a builder, key pair and security group that go away again; the image, its snapshot and its copies in
    ami_regions, which stay.
    Builds the API's binary and validates the template first. --dry shows the plan.
    """
    wanted = parse(version)
    return building.build_ami(
        connect(settings),
        settings,
        wanted,
        root=ROOT,
        cache=user_cache(),
        poller=aws.poller(os.environ),
        builder=BuildTools(ROOT, user_cache(), os.environ, lambda each: bundle(settings, each).directory),
        replace=replace,
        package_cache=package_cache,
        dry=dry,
    )


@command("region")
def verify_ami(settings: Settings, dry: bool, version: str = "", ami_id: str = "") -> verifying.VerifyResult | Plan:
    """Launch three instances of an image: boot, reboot, backup, restore, swap; and tag it if it passes.

    In the account: the instances and their data volumes, which go away again; the image's tag zmanim:verified, which
    publish-ssm asks for. --dry shows the plan. Writes build/verify/AMI.json, and AMI.html for people.
    """
    wanted = version_unless_id(version, ami_id)
    clients = connect(settings)

    def ask(of_version: str) -> Mapping[str, Any]:
        return inside.look(clients, settings, of_version, aws.target(clients, os.environ))

    with make.of_verifications(ROOT, ask):
        return verifying.verify_ami(
            clients, settings, root=ROOT, poller=aws.poller(os.environ), version=wanted, ami_id=ami_id, dry=dry
        )


@command("region", "ami_regions")
def publish_ssm(settings: Settings, dry: bool, version: str = "", ami_id: str = "") -> publication.Published | Plan:
    """Publish a verified image: its id and version in SSM, in every region; does nothing when they stand there already.

    In the account: a parameter images/VERSION, once and for ever; the image and its copies protected from
    deregistration; the parameters ami-id and ami-version below the setting parameter_prefix. Refuses an image that is
    not verified, not available, not this account's, or a test image; nothing overrides that. An older one than is
    published takes image.rollback. Cut short, the same command completes it. --dry shows the plan.
    """
    wanted = version_unless_id(version, ami_id)
    refuse_test_image(wanted)  # before anybody is asked who we are
    return publication.publish(
        connect(settings), settings, connect_elsewhere(settings), version=wanted, ami_id=ami_id, dry=dry
    )


@command(only_reads=True, ref="what is checked out: refs/tags/v1.2.3-ami, or a branch")
def check_tag(ref: str = "", version: str = "") -> tag.Checked:
    """Check that what is checked out may become a release: the tag is its version's, the commit is on main.

    Asks nobody, changes nothing.
    """
    return tag.check(ROOT, ref, parse(version))


@command("region", page="the address of its evidence page, for a link to it", only_reads=True)
def show_verification(settings: Settings, version: str = "", page: str = "", json: bool = False) -> None:
    """Print what verify-ami found on this machine, as Markdown: the image, its boot times, its checks, its packages.

    Compares the packages with those of the image that is published now; changes nothing.
    """
    result = summary.summary(connect(settings), settings, ROOT, parse(version))
    if json:
        show(result, as_json=True)
    else:
        sys.stdout.write(summary.markdown(result, page))


def bundle(settings: Settings, version: Version) -> binary.Bundle:
    """Build the API's release bundle of a version, or find the equal one."""
    made_by = go(user_cache())
    source, output = ROOT / settings.api_dir, ROOT / "build" / "bundle"
    made_for = programs.architecture(provenance.versions(ROOT, settings))
    return binary.build(source, str(version), provenance.commit(ROOT), output, made_by, architecture=made_for)
