"""Our own images: finding one, what it is, and whether an image of that name may be made again.

"Own" is checked on each: another account's image of our name is how a wrong AMI gets into production.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from support.errors import BadInput, Error
from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.ami.provenance import Provenance
from zmanim_ami.pipeline.version import IMAGE_PREFIX, Version

if TYPE_CHECKING:
    from mypy_boto3_ec2.type_defs import ImageTypeDef

VERIFIED_TAG = "zmanim:verified"
# On all that a build or a verification makes; its value is the id of the run (setting `run`).
PROJECT_TAG = "zmanim:run"
# DescribeImages gives 1,000 at most.
_PAGE = 500
_SHA256 = re.compile(r"[0-9a-f]{64}")
_AMI_ID = re.compile(r"ami-[0-9a-f]{8,17}")


class NoSuchImage(Error):
    """There is no such image in this account and region."""


@dataclass(frozen=True)
class Image:
    """An image as DescribeImages tells of it; `tags` without those of AWS itself are ours.

    `created`, `launched` (the last time, as AWS knows it a day later) and `deprecated` are AWS's own texts, empty for
    never. `copied_from` is the image that it was made of in whatever region, where AWS says so. `size_gib` is that of
    its volumes.
    """

    ami_id: str
    name: str
    owner: str
    state: str
    snapshots: tuple[str, ...]
    tags: Mapping[str, str]
    created: str = ""
    launched: str = ""
    deprecated: str = ""
    protected: bool = False
    public: bool = False
    copied_from: str = ""
    size_gib: int = 0
    architecture: str = ""

    @property
    def version(self) -> str:
        """The version that it is tagged with; empty when it is not one of ours."""
        return self.tags.get("zmanim:version", "")

    @property
    def verified(self) -> bool:
        """Whether it carries the digest of a passed verification's report."""
        return bool(_SHA256.fullmatch(self.tags.get(VERIFIED_TAG, "")))

    def made_from(self, version: Version, provenance: Provenance) -> bool:
        """Whether it is the image that this version, commit and tree would give again."""
        return all(self.tags.get(name) == value for name, value in provenance.tags(version).items())


def of_name(clients: aws.Clients, name: str) -> Image | None:
    """Return this account's image of that name, in whatever state; None when there is none.

    Raises `image-ambiguous` when there are several, which AWS itself never allows.
    """
    images = [image for image in own(clients, name) if image.state not in {"deregistered", "invalid"}]
    if len(images) > 1:
        raise Error(
            f"there are {len(images)} images called {name}",
            code="image-ambiguous",
            expected="one",
            found=", ".join(image.ami_id for image in images),
            fix="say which by --ami-id, or deregister the wrong one",
        )
    return images[0] if images else None


def own(clients: aws.Clients, name: str = f"{IMAGE_PREFIX}*") -> list[Image]:
    """Return this account's images of a name, or of a pattern of one, disabled ones as well. Raises aws's errors."""
    # A disabled one keeps its name and its snapshots, and is only shown to who asks for it.
    with aws.translate_errors(f"looking for the images {name}"):
        pages = clients.ec2.get_paginator("describe_images").paginate(
            Owners=["self"],
            IncludeDisabled=True,
            Filters=[{"Name": "name", "Values": [name]}],
            PaginationConfig={"PageSize": _PAGE},
        )
        return [as_image(item) for page in pages for item in page["Images"]]


def of_id(clients: aws.Clients, ami_id: str) -> Image:
    """Return the image of that id, whoever owns it.

    Raises `ami-id-invalid`, NoSuchImage.
    """
    if not _AMI_ID.fullmatch(ami_id):
        raise BadInput(
            f"{ami_id!r} is no AMI id",
            code="ami-id-invalid",
            expected="ami- and 8 or 17 hex digits",
            found=repr(ami_id),
        )
    with aws.translate_errors(f"looking for the image {ami_id}"):
        images = aws.unless_refused(
            lambda: clients.ec2.describe_images(ImageIds=[ami_id], IncludeDisabled=True)["Images"],
            *(f"InvalidAMIID.{reason}" for reason in ("NotFound", "Unavailable", "Malformed")),
        )
    if not images:
        raise NoSuchImage(
            f"there is no image {ami_id}",
            expected=f"an image of this account in {clients.region}",
            found="none",
            fix="./inv build-ami prints the id that it made; is the region right?",
        )
    return as_image(images[0])


def find(clients: aws.Clients, version: Version | None, ami_id: str) -> Image:
    """Return this account's image of `version`, or the one with `ami_id`; both together must agree.

    Raises BadInput when neither is given, `ami-id-invalid`, NoSuchImage, `image-ambiguous`, `image-not-ours`.
    """
    if not ami_id and not version:
        raise BadInput("no image was named", expected="--version or --ami-id", found="neither")
    account = aws.account(clients)
    image = of_id(clients, ami_id) if ami_id else of_name(clients, version.image_name) if version else None
    if image is None:
        raise NoSuchImage(
            f"there is no image of {version}",
            expected=f"an image called zmanim-{version} in this account and {clients.region}",
            found="none",
            fix=f"./inv build-ami --version {version}",
        )
    fix = "give the id that ./inv build-ami printed" if ami_id else "deregister it, or choose another version"
    wanted = str(version or image.version)
    if image.owner != account:
        raise BadInput(
            f"{image.ami_id} is not this account's",
            code="image-not-ours",
            expected=account,
            found=f"owner {image.owner}",
            fix=fix,
        )
    if not image.version or image.version != wanted or image.name != f"zmanim-{wanted}":
        raise BadInput(
            f"{image.ami_id} is not zmanim's image of {wanted or 'any version'}",
            code="image-not-ours",
            expected=f"the name zmanim-{wanted or 'VERSION'} and the tag zmanim:version={wanted or 'VERSION'}",
            found=f"name {image.name}, tag {image.version or '(none)'}",
            fix=fix,
        )
    return image


def was_published(clients: aws.Clients, parameter_prefix: str, ami_id: str) -> bool:
    """Whether the parameter ami-id names this image or did once, as far as its history reaches (100 versions)."""
    with aws.translate_errors(f"reading the history of {parameter_prefix}/ami-id"):
        pages = clients.ssm.get_paginator("get_parameter_history").paginate(Name=f"{parameter_prefix}/ami-id")
        values = aws.unless_refused(lambda: list(pages.search("Parameters[].Value")), "ParameterNotFound")
    return ami_id in (values or [])


def check_replaceable(image: Image, version: Version, *, published: bool, replace: bool) -> None:
    """Raise unless `image`, made from something else, may give up its name to a new one.

    A published image stays what it was: instances may be running from it, and going back to it must be possible. A
    verified one has a report that names it; a test image can't be published, so there it does not matter.

    Raises `image-busy`, `image-not-ours`, `image-is-final`, `image-exists`.
    """
    found = f"{image.ami_id}, commit {image.tags.get('zmanim:commit', '(none)')}"
    newer = "build it under a new version, or as -rc.N"
    if image.version != str(version):
        raise BadInput(
            f"an image is called {image.name} and is not zmanim's {version}",
            code="image-not-ours",
            expected=f"the tag zmanim:version={version}",
            found=f"{image.ami_id}, tag {image.version or '(none)'}",
            fix="rename or deregister that image",
        )
    if published or (image.verified and not version.test_image):
        what = "published" if published else "verified"
        raise BadInput(
            f"{version} is {what} already, from another source",
            code="image-is-final",
            expected="a version not yet used",
            found=found,
            fix=newer,
        )
    if image.state in {"pending", "transient"}:
        raise Error(
            f"an image of {version} is being made",
            code="image-busy",
            expected="no other build",
            found=found,
            fix="wait for it to end",
        )
    if not replace:
        raise BadInput(
            f"an image of {version} exists, made from something else ({image.state})",
            code="image-exists",
            expected="no image of that name, or one of this commit and digest",
            found=found,
            fix=f"--replace makes it anew and deregisters {image.ami_id}; or {newer}",
        )


def as_image(item: ImageTypeDef) -> Image:
    """Return an image as DescribeImages tells of it."""
    return Image(
        ami_id=item.get("ImageId", ""),
        name=item.get("Name", ""),
        owner=item.get("OwnerId", ""),
        state=item.get("State", ""),
        snapshots=tuple(
            snapshot
            for mapping in item.get("BlockDeviceMappings", [])
            if (snapshot := mapping.get("Ebs", {}).get("SnapshotId"))
        ),
        tags={tag.get("Key", ""): tag.get("Value", "") for tag in item.get("Tags", [])},
        created=item.get("CreationDate", ""),
        launched=item.get("LastLaunchedTime", ""),
        deprecated=item.get("DeprecationTime", ""),
        protected=item.get("DeregistrationProtection", "").startswith("enabled"),
        public=item.get("Public", False),
        copied_from=item.get("SourceImageId", ""),
        architecture=item.get("Architecture", ""),
        size_gib=sum(mapping.get("Ebs", {}).get("VolumeSize", 0) for mapping in item.get("BlockDeviceMappings", [])),
    )
