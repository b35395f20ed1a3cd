"""Where an image goes beside its own region and account: copies in other regions, and whom each is shared with.

Packer could copy too, and was rejected: the snapshots of its copies are tagged afterwards, so whoever may do that may
take over any snapshot of that region; and for a key in each region it makes a second image in the first one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from support.errors import BadInput, Error
from support.progress import say, step
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.ami.provenance import Provenance
from zmanim_ami.pipeline.settings import Settings
from zmanim_ami.pipeline.version import Version

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef, LaunchPermissionTypeDef, TagSpecificationTypeDef, TagTypeDef

# On a copy: the id of the image that it was made of.
COPY_OF_TAG = "zmanim:copy-of"
# What AWS calls its own key for volumes.
_OWN_KEY = "alias/aws/ebs"
# 10 GiB take some minutes between any two regions; a session of a role has an hour for all of a build.
_COPY_SECONDS = 1800.0


@dataclass(frozen=True)
class Copies:
    """What is to be copied, and where to: `elsewhere` are the clients of the further regions.

    `made` says what the image of `version` is made from; `deprecate_at` (UTC) is empty for never.
    """

    elsewhere: Sequence[aws.Clients]
    settings: Settings
    version: Version
    made: Provenance
    deprecate_at: str


def regions(settings: Settings) -> tuple[str, ...]:
    """Return the regions to copy to: those of the setting ami_regions but the image's own, each once."""
    return tuple(dict.fromkeys(region for region in settings.ami_regions if region != settings.region))


def check(settings: Settings) -> None:
    """Raise `image-not-shareable` or `key-of-one-region` for settings that AWS would refuse when the image is made."""
    own = settings.kms_key_id.endswith(_OWN_KEY) or not settings.kms_key_id
    if settings.ami_users and settings.root_encrypted and own:
        raise BadInput(
            "an image that AWS's own key encrypts can't be shared",
            code="image-not-shareable",
            expected="a key of your own (setting kms_key_id) beside ami_users, or root_encrypted = false",
            found=f"ami_users {', '.join(settings.ami_users)}; kms_key_id {settings.kms_key_id or 'empty'}",
            fix="make a key whose policy lets these accounts use it, with an alias, and set kms_key_id = alias/NAME",
        )
    name = settings.kms_key_id.rpartition(":")[2].removeprefix("key/")
    if regions(settings) and settings.kms_key_id and not name.startswith(("alias/", "mrk-")):
        raise BadInput(
            "a key of one region can't encrypt copies in others",
            code="key-of-one-region",
            expected="kms_key_id as alias/NAME, which each region has its own key for, or the id of a multi-Region key",
            found=f"{settings.kms_key_id}, and ami_regions {', '.join(regions(settings))}",
            fix="give the keys of these regions one alias, and set kms_key_id = alias/NAME",
        )


def check_free(copies: Copies, *, replace: bool) -> None:
    """Raise image's errors on an image of that name in another region that is in the way of its copy."""
    for clients in copies.elsewhere:
        old = image.of_name(clients, copies.version.image_name)
        if old and not old.made_from(copies.version, copies.made):
            image.check_replaceable(old, copies.version, published=False, replace=replace)


def copy(clients: aws.Clients, copies: Copies, ami: image.Image, poller: aws.Poller) -> dict[str, str]:
    """Return the id of `ami`'s copy by its region, each made now unless it is there, shared and deprecated like `ami`.

    An image of that name that was made from something else goes first. Raises `copy-failed`, aws's errors; copies that
    were made stay, and the next call goes on with the others.
    """
    with aws.translate_errors(f"looking at {ami.ami_id}"):
        source = clients.ec2.describe_images(ImageIds=[ami.ami_id])["Images"][0] if copies.elsewhere else {}
    started = {
        each.region: _start(each, clients.region, copies, ami, source.get("Description", ""))
        for each in copies.elsewhere
    }
    for each in copies.elsewhere:
        with step(f"copy to {each.region}: {started[each.region]}"):
            _finish(each, started[each.region], copies, poller)
    return started


def _start(
    clients: aws.Clients,
    source_region: str,
    copies: Copies,
    ami: image.Image,
    description: str,
) -> str:
    existing = image.of_name(clients, ami.name)
    if existing and existing.made_from(copies.version, copies.made) and existing.state in {"pending", "available"}:
        return existing.ami_id
    settings = copies.settings
    with aws.translate_errors(f"copying {ami.ami_id} to {clients.region}"):
        if existing:
            say(f"taking {existing.ami_id} in {clients.region} away: {existing.state}, made from something else")
            clients.ec2.deregister_image(ImageId=existing.ami_id)
            for snapshot in existing.snapshots:
                clients.ec2.delete_snapshot(SnapshotId=snapshot)
        encrypted: dict[str, Any] = {"Encrypted": True} if settings.root_encrypted else {}
        key: dict[str, Any] = {"KmsKeyId": _key(settings.kms_key_id)} if encrypted and settings.kms_key_id else {}
        return clients.ec2.copy_image(
            Name=ami.name,
            Description=description,
            SourceImageId=ami.ami_id,
            SourceRegion=source_region,
            TagSpecifications=_tags(ami, settings),
            **encrypted,
            **key,
        )["ImageId"]


def _key(kms_key_id: str) -> str:
    """Return a key's id or alias without its region, as `check` has seen to it that every region has one."""
    return kms_key_id.rpartition(":")[2].removeprefix("key/")


def _tags(ami: image.Image, settings: Settings) -> list[TagSpecificationTypeDef]:
    own = {
        name: value for name, value in ami.tags.items() if name != image.VERIFIED_TAG and not name.startswith("aws:")
    }
    tags: Mapping[str, str] = {**own, image.PROJECT_TAG: settings.run, COPY_OF_TAG: ami.ami_id}
    listed: list[TagTypeDef] = [{"Key": name, "Value": value} for name, value in tags.items()]
    return [{"ResourceType": "image", "Tags": listed}, {"ResourceType": "snapshot", "Tags": listed}]


def _finish(clients: aws.Clients, ami_id: str, copies: Copies, poller: aws.Poller) -> None:
    """Wait for a copy, then do to it what Packer has done to its source. Raises `copy-failed`."""
    where = f"{ami_id} in {clients.region}"

    def failed(found: str) -> Error:
        return Error(
            f"the copy {where} was not made",
            code="copy-failed",
            expected=f"state available within {_COPY_SECONDS:.0f} s",
            found=found,
            fix=f"has {clients.region} the key of the setting kms_key_id, and may the role use it? Then build again: "
            "what is there is kept",
        )

    def look() -> ImageTypeDef | None:
        shown = clients.ec2.describe_images(ImageIds=[ami_id])["Images"]
        state = shown[0].get("State") if shown else "pending"
        if state == "failed":
            raise failed(f"failed: {shown[0].get('StateReason', {}).get('Message', 'no reason given')}")
        return shown[0] if state == "available" else None

    with aws.translate_errors(f"preparing {where}"):
        shown = poller.wait_for(look, _COPY_SECONDS, lambda: failed("still pending"))
        if shown.get("ImdsSupport") != "v2.0":
            clients.ec2.modify_image_attribute(ImageId=ami_id, ImdsSupport={"Value": "v2.0"})
        if copies.settings.ami_users:
            added: list[LaunchPermissionTypeDef] = [{"UserId": account} for account in copies.settings.ami_users]
            clients.ec2.modify_image_attribute(ImageId=ami_id, LaunchPermission={"Add": added})
        if copies.deprecate_at and not shown.get("DeprecationTime"):
            clients.ec2.enable_image_deprecation(ImageId=ami_id, DeprecateAt=copies.deprecate_at)
