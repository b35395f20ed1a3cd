"""Reports of passed verifications, kept in the account, and the packages of an image against the published one's.

A report lies in the bucket for releases of the environment verify, as reports/AMI.json. Whoever can write there can't
forge one: the image's tag zmanim:verified holds the SHA-256 of the report, and the tag is what is believed. An SSM
parameter would be too small, an artifact of the workflow is gone after 90 days, and the builder's inventory is only
where it was built.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from zmanim_ami.pipeline import aws
from zmanim_ami.pipeline.account.requirements import VERIFY
from zmanim_ami.pipeline.ami import image
from zmanim_ami.pipeline.channel import bucket as release_channel
from zmanim_ami.pipeline.publish import parameters

_MISSING = {"NoSuchKey", "404"}


@dataclass(frozen=True)
class PackageChange:
    """A package that is not the same in both: its version, release and architecture, empty where it is not at all."""

    name: str
    before: str
    after: str


@dataclass(frozen=True)
class Comparison:
    """What differs from the published image. `unknown` says why that can't be told, and is empty when it can.

    `ami_id` and `version` are the published image's, empty where nothing is published.
    """

    ami_id: str
    version: str
    unknown: str
    changes: tuple[PackageChange, ...]


def keep(clients: aws.Clients, ami_id: str, report: Path) -> None:
    """Put a report where `compare` finds it. Raises aws's errors."""
    bucket = release_channel.bucket(clients, VERIFY)
    with aws.translate_errors(f"keeping the report in {bucket}"):
        clients.s3.put_object(Bucket=bucket, Key=_key(ami_id), Body=report.read_bytes())


def compare(clients: aws.Clients, parameter_prefix: str, packages: Mapping[str, str]) -> Comparison:
    """Compare `packages` (versions by name) with those of the image that is published now. Raises aws's errors."""
    pointer = parameters.read_parameter(clients, f"{parameter_prefix}/ami-id")
    if pointer is None:
        return Comparison("", "", "nothing is published yet", ())
    ami_id = pointer.value
    try:
        published = image.of_id(clients, ami_id)
    except image.NoSuchImage:
        return Comparison(ami_id, "", "the published image is gone", ())
    report = read(clients, ami_id)
    if report is None:
        return Comparison(ami_id, published.version, "no report on the published image was kept", ())
    if hashlib.sha256(report).hexdigest() != published.tags.get(image.VERIFIED_TAG, ""):
        why = f"the kept report is not the one that the published image's {image.VERIFIED_TAG} names"
        return Comparison(ami_id, published.version, why, ())
    return Comparison(ami_id, published.version, "", changes(json.loads(report)["packages"], packages))


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[PackageChange, ...]:
    """Return the packages that differ, by name."""
    return tuple(
        PackageChange(name, before.get(name, ""), after.get(name, ""))
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    )


def _key(ami_id: str) -> str:
    return f"reports/{ami_id}.json"


def read(clients: aws.Clients, ami_id: str) -> bytes | None:
    """Return the kept report on an image, None when there is none. Raises aws's errors."""
    bucket = release_channel.bucket(clients, VERIFY)
    with aws.translate_errors(f"reading {bucket}/{_key(ami_id)}"):
        answer = aws.unless_refused(lambda: clients.s3.get_object(Bucket=bucket, Key=_key(ami_id)), *_MISSING)
        return answer["Body"].read() if answer else None
