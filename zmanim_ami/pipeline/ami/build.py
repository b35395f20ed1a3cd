"""build-ami: from a clone to an image of this account, or to the one that is there already.

In the account it makes what Packer makes (a builder, a key pair and a security group that go away again, the image and
its snapshot), and the image's copies in other regions; with `replace` it also takes an unverified image of that name
away, after the new one exists.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from support.errors import Error
from support.progress import say, step
from zmanim_ami.pipeline import aws, programs
from zmanim_ami.pipeline.account.keys import release_key
from zmanim_ami.pipeline.advisories import kept
from zmanim_ami.pipeline.advisories.findings import ADVISORIES_TAG
from zmanim_ami.pipeline.ami import distribution, image, inventories, packer, packer_errors, provenance
from zmanim_ami.pipeline.ami import package_cache as packages
from zmanim_ami.pipeline.ami.builder import Builder
from zmanim_ami.pipeline.channel import bucket as channel
from zmanim_ami.pipeline.plan import Plan, Step
from zmanim_ami.pipeline.sbom import document as documents
from zmanim_ami.pipeline.sbom import store as sbom
from zmanim_ami.pipeline.setting_sources import Value
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version


@dataclass(frozen=True)
class BuildResult:
    """The image of a version; `seconds` is how long this call took, `reused` that nothing was built.

    `copies` are the ids of its copies by their regions.
    """

    ami_id: str
    version: str
    region: str
    reused: bool
    seconds: float
    source_ami: str
    commit: str
    tree_digest: str
    copies: Mapping[str, str]


def build_ami(
    clients: aws.Clients,
    settings: Settings,
    version: Version,
    *,
    root: Path,
    cache: Path,
    builder: Builder,
    poller: aws.Poller,
    replace: bool = False,
    package_cache: bool = True,
    dry: bool = False,
    connect: Callable[[str], aws.Clients] = aws.connect,
) -> BuildResult | Plan:
    """Return the image of `version` made from the clone at `root`: an equal one that exists, or a new one.

    `cache` is the user's cache directory, where compiled packages are kept; without `package_cache` none is offered, so
    that all are compiled anew. With `dry` nothing in the account or the cache changes (the API's binary is built: only
    its digest tells whether an image is equal). `connect` gives the clients of the regions to copy to.

    Raises aws's errors, image's on an image that is in the way, packer_errors', `image-not-as-built`, distribution's,
    `address-unknown`, `programs-not-shipped`.
    """
    start = time.monotonic()
    distribution.check(settings)
    aws.check_region(clients, *distribution.regions(settings))
    account = aws.account(clients)
    programs.check(clients, programs.architecture(provenance.versions(root, settings)), str(version))
    bundle = builder.bundle(version)
    keys = release_key.public_keys(clients, settings.release_environments)
    made = provenance.describe(root, bundle, settings, builder.versions(), keys)
    if made.commit.endswith("-dirty"):
        say("the work tree differs from its commit: the image will be tagged so")
    copies = distribution.Copies(
        tuple(map(connect, distribution.regions(settings))),
        settings,
        version,
        made,
        packer.deprecation(settings, datetime.now(UTC)),
    )
    old = image.of_name(clients, version.image_name)
    distribution.check_free(copies, replace=replace)
    if old and old.state == "available" and old.made_from(version, made):
        say(f"{version} exists already, made from this commit and tree: {old.ami_id}")
        if dry:
            return Plan(_copy_steps(settings))
        output = packer.output_directory(root, version)
        if not {sbom.SBOM_TAG, ADVISORIES_TAG} <= old.tags.keys() and packer.made_here(output, old.ami_id):  # cut short
            old = _described(clients, root, old, output)
        return _result(clients, old, start, distribution.copy(clients, copies, old, poller), reused=True)
    if old:
        published = image.was_published(clients, settings.parameter_prefix, old.ami_id)
        image.check_replaceable(old, version, published=published, replace=replace)
    rpm_cache = packages.directory(cache, account, provenance.versions(root, settings))
    # No part of the image's identity: else each release of the API would make the same image another one.
    serials = {each: channel.newest_serial(clients, each) for each in keys}
    if dry:
        return _plan(settings, version, made, old)
    values = packer.variables(
        root,
        settings,
        version,
        bundle,
        made,
        package_cache=packages.offered(rpm_cache) if package_cache else "",
        ssh_source_cidr=builder.ssh_source(settings.ssh_source),
        deprecate_at=copies.deprecate_at,
        release_keys=release_key.write(root, version, keys, serials),
    )
    with step("packer validate"):
        builder.validate(values)
    with step(f"packer build {version}"):
        try:
            built, replaced = _built(clients, builder, version, values, old)
        except Error:
            _check_session(clients, settings.run)
            raise
    new = _checked(clients, account, version, made, built)
    inventories.keep(clients, new.ami_id, built.output / "inventory.json")
    new = _described(clients, root, new, built.output)
    if replaced:
        _delete_snapshots(clients, replaced)
    if added := packages.store(rpm_cache, built.output):
        say(f"kept {added} compiled packages for the next build in {rpm_cache}")
    return _result(clients, new, start, distribution.copy(clients, copies, new, poller), reused=False)


def _plan(settings: Settings, version: Version, made: provenance.Provenance, old: image.Image | None) -> Plan:
    where = f"{settings.instance_type} in {settings.subnet_id or 'the default VPC'}"
    before, after = [], []
    if old:
        before = [Step("deregister", f"{old.ami_id} ({old.state})", "--replace, once the new one is provisioned")]
        after = [Step("delete", snapshot, f"it belongs to {old.ami_id}") for snapshot in old.snapshots]
    return Plan(
        (
            Step("launch", where, "the builder; Packer terminates it, and deletes its key pair and security group"),
            *before,
            Step("create", version.image_name, f"commit {made.commit}, tree {made.tree_digest[:16]}"),
            *_copy_steps(settings),
            *(Step("share", user, "setting ami_users") for user in settings.ami_users),
            *after,
        )
    )


def _check_session(clients: aws.Clients, run: str) -> None:
    """Raise `session-ended` when our credentials have ended: Packer tries each call ten times, and may not say so."""
    try:
        aws.account(clients)
    except Error as error:
        if error.code == "credentials-expired":
            raise packer_errors.session_ended(error.found, run) from error


def _copy_steps(settings: Settings) -> tuple[Step, ...]:
    key = f"encrypted by {settings.kms_key_id or 'AWS’s own key'} there" if settings.root_encrypted else "not encrypted"
    return tuple(Step("copy", region, f"setting ami_regions; {key}") for region in distribution.regions(settings))


def _built(
    clients: aws.Clients, builder: Builder, version: Version, values: Mapping[str, Value], old: image.Image | None
) -> tuple[packer.Built, image.Image | None]:
    """Return what Packer built, and the image in whose place: its snapshots are nobody's any more."""
    try:
        return builder.build(version, values, force=old is not None), old
    except packer_errors.ImageNotSeen:
        say("Packer did not see the image that it had made (eventual consistency): building it once more")
        if old:
            _delete_snapshots(clients, old)  # this build has deregistered it
        half_made = _half_made(clients, version)
        return builder.build(version, values, force=True), half_made


def _half_made(clients: aws.Clients, version: Version) -> image.Image | None:
    """Return the image without its tags that Packer left, once it is seen: Packer takes it away by its name."""
    found: list[image.Image | None] = []

    def look() -> bool:
        found.append(image.of_name(clients, version.image_name))
        return found[-1] is not None

    clients.written.settled(f"the image {version.image_name}", look)
    return found[-1]


def _checked(
    clients: aws.Clients, account: str, version: Version, made: provenance.Provenance, built: packer.Built
) -> image.Image:
    """Return the image as AWS tells of it: what Packer says and what is there are compared, not believed."""

    def look() -> tuple[image.Image, list[str]]:
        new = image.of_id(clients, built.ami_id)
        compared = (
            ("owner", new.owner, account),
            ("name", new.name, version.image_name),
            ("state", new.state, "available"),
            *((f"tag {name}", new.tags.get(name, "(none)"), value) for name, value in made.tags(version).items()),
        )
        return new, [f"{what}: {is_}, not {wanted}" for what, is_, wanted in compared if is_ != wanted]

    clients.written.note(built.ami_id)
    clients.written.settled(f"{built.ami_id} as it was built", lambda: not look()[1])
    new, wrong = look()
    if wrong:
        raise Error(
            f"{built.ami_id} is not what was to be built",
            code="image-not-as-built",
            expected=f"an available {version.image_name} of account {account}, tagged with its provenance",
            found="; ".join(wrong),
            fix=f"do not use it; what Packer said: {built.log}",
        )
    return new


def _described(clients: aws.Clients, root: Path, ami: image.Image, output: Path) -> image.Image:
    """Return an image with the tags that tell its SBOM, and which advisories are open for it as it is built.

    Raises `sbom-invalid`, `inventory-too-old`, `advisories-unreadable`, aws's errors.
    """
    tags = {**_sbom_tag(clients, root, ami, output), **_advisories_tag(clients, ami, output)}
    return dataclasses.replace(ami, tags={**ami.tags, **tags})


def _advisories_tag(clients: aws.Clients, ami: image.Image, output: Path) -> dict[str, str]:
    now, file = datetime.now(UTC), output / "advisories.json"
    content, text = kept.make(output / "inventory.json", output / "updateinfo.xml.gz", now)
    file.write_text(content)
    inventories.keep(clients, ami.ami_id, file, inventories.ADVISORIES)
    say(f"advisories: {text}")
    with aws.translate_errors(f"tagging {ami.ami_id}"):
        clients.ec2.create_tags(Resources=[ami.ami_id], Tags=[{"Key": ADVISORIES_TAG, "Value": text}])
    return {ADVISORIES_TAG: text}


def _sbom_tag(clients: aws.Clients, root: Path, ami: image.Image, output: Path) -> dict[str, str]:
    """Return the tag of an image's SBOM; none where the account has no place to keep that."""
    document = documents.of_file(output / "inventory.json", provenance.committed(root))
    (output / "sbom.cdx.json").write_bytes(document)
    try:
        digest = sbom.keep(clients, ami.ami_id, document)
    except Error as error:
        if error.code != "bucket-unknown":
            raise
        say(f"the SBOM of {ami.ami_id} is not kept in the account: {error.found}")
        return {}
    return {sbom.SBOM_TAG: digest}


def _delete_snapshots(clients: aws.Clients, old: image.Image) -> None:
    # Packer has deregistered the image; its snapshots alone would be paid for for ever, and nothing names them.
    for snapshot in old.snapshots:
        say(f"deleting {snapshot} of the replaced {old.ami_id}")
        with aws.translate_errors(f"deleting {snapshot}"), aws.ignoring("InvalidSnapshot.NotFound"):
            clients.ec2.delete_snapshot(SnapshotId=snapshot)


def _result(
    clients: aws.Clients, ami: image.Image, start: float, copies: Mapping[str, str], *, reused: bool
) -> BuildResult:
    return BuildResult(
        ami_id=ami.ami_id,
        version=ami.version,
        region=clients.region,
        reused=reused,
        seconds=round(time.monotonic() - start, 3),
        source_ami=ami.tags.get("zmanim:source-ami", ""),
        commit=ami.tags.get("zmanim:commit", ""),
        tree_digest=ami.tags.get("zmanim:tree-digest", ""),
        copies=copies,
    )
